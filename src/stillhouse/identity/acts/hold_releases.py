"""The end of a hold. Who holds the vault may ask for it, too."""

from stillhouse.identity.acts.base import CUSTODIANS, Act
from stillhouse.nouns import HoldRelease

ACT = Act("HoldRelease", HoldRelease, CUSTODIANS)
