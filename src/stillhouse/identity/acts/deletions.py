"""A deletion: some nodes of lineage may be forgotten. Who holds the vault may ask for it, too."""

from stillhouse.identity.acts.base import CUSTODIANS, Act
from stillhouse.nouns import Deletion

ACT = Act("Deletion", Deletion, CUSTODIANS)
