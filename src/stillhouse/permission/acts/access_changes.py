"""A grant or a revocation of a lab's access. A revocation waits for nobody."""

from stillhouse.nouns import AccessChange, AccessKind
from stillhouse.permission.acts.act import Act

ACT = Act("AccessChange", AccessChange, alone=lambda change: change.kind == AccessKind.REVOKE)
