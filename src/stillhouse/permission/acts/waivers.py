"""A waiver: somebody answers, until a day, for a use that nobody could permit otherwise."""

from stillhouse.nouns import Waiver
from stillhouse.permission.acts.act import Act

ACT = Act("Waiver", Waiver)
