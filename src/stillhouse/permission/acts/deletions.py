"""A deletion: some nodes of lineage may be forgotten. Who holds the vault may ask for it, too."""

from stillhouse.nouns import Deletion
from stillhouse.permission.acts.act import CUSTODIANS, Act

ACT = Act("Deletion", Deletion, CUSTODIANS)
