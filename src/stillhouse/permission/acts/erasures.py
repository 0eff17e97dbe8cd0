"""An erasure: the key of a source is destroyed everywhere. Who holds the vault may ask for it, too."""

from stillhouse.nouns import Erasure
from stillhouse.permission.acts.act import CUSTODIANS, Act

ACT = Act("Erasure", Erasure, CUSTODIANS)
