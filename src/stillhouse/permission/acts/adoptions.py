"""The organisation's facts, rules, terms, prices and teachers, as they are to decide from now on."""

from stillhouse.nouns import PolicyAdoption
from stillhouse.permission.acts.act import Act

ACT = Act("PolicyAdoption", PolicyAdoption)
