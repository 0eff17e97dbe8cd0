"""A teacher: whose it is, through which channel it is asked and under which terms. What its answers are stamped with."""

import msgspec

from stillhouse.canon import digest_value
from stillhouse.nouns import Teacher
from stillhouse.permission.acts.act import Act

ACT = Act("Teacher", Teacher)


def registration_digest(teacher: Teacher) -> str:
    """By which an adoption names a teacher: all of it but where its weights lie and which fields its server takes."""
    return digest_value(msgspec.structs.replace(teacher, weights="", limit_field="", rejects=()))
