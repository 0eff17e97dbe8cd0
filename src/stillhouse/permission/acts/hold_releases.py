"""The end of a hold. Who holds the vault may ask for it, too."""

from stillhouse.nouns import HoldRelease
from stillhouse.permission.acts.act import CUSTODIANS, Act

ACT = Act("HoldRelease", HoldRelease, CUSTODIANS)
