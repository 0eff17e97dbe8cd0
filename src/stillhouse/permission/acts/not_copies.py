"""A finding that something which was recognised is no copy: by a reviewer, on evidence, approved by somebody else."""

from stillhouse.nouns import NotACopy
from stillhouse.permission.acts.act import Act

ACT = Act("NotACopy", NotACopy)
