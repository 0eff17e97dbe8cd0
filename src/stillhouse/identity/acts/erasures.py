"""An erasure: the key of a source is destroyed everywhere. Who holds the vault may ask for it, too."""

from stillhouse.identity.acts.base import CUSTODIANS, Act
from stillhouse.nouns import Erasure

ACT = Act("Erasure", Erasure, CUSTODIANS)
