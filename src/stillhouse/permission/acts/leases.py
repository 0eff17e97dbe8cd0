"""A lease: GPUs of a pool are lent until a moment. To a team it takes one signature, to outsiders an approver's, too."""

from stillhouse.nouns import Lease
from stillhouse.permission.acts.act import Act

ACT = Act("Lease", Lease, alone=lambda lease: not lease.outside)
