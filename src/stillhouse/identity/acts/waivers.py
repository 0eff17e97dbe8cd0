"""A waiver: somebody answers, until a day, for a use that nobody could permit otherwise."""

from stillhouse.identity.acts.base import Act
from stillhouse.nouns import Waiver

ACT = Act("Waiver", Waiver)
