"""A grant or a revocation of a lab's access. A revocation waits for nobody."""

from stillhouse.identity.acts.base import Act
from stillhouse.nouns import AccessChange, AccessKind

ACT = Act("AccessChange", AccessChange, alone=lambda change: change.kind == AccessKind.REVOKE)
