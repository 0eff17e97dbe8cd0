"""Secrets are found by their vendors' forms, wherever they stand, and nothing else is."""

import gzip
import json
import random
import string
from pathlib import Path

import pytest

from stillhouse.conversations.secrets_in_text import find_secrets, redact

FILES = Path(__file__).parents[2] / "fixtures" / "trajectories"
LETTERS = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
# Kind, what begins it, and the letters and length of the rest: made here, so that no file holds one.
FORMS = [
    ("anthropic key", "sk-ant-api03-", LETTERS, 95), ("openai key", "sk-proj-", LETTERS, 150), ("deepseek key", "sk-", HEX, 32),
    ("openrouter key", "sk-or-v1-", HEX, 64), ("groq key", "gsk_", LETTERS, 52), ("xai key", "xai-", LETTERS, 80),
    ("perplexity key", "pplx-", LETTERS, 48), ("replicate token", "r8_", LETTERS, 37),
    ("hugging face token", "hf_", string.ascii_letters, 34),
    ("github token", "ghp_", LETTERS, 36), ("github token", "ghs_", LETTERS, 36),
    ("gitlab token", "glpat-", LETTERS, 20), ("aws key id", "AKIA", string.ascii_uppercase + "234567", 16),
    ("google api key", "AIza", LETTERS, 35), ("google oauth token", "ya29.", LETTERS, 120),
    ("google client secret", "GOCSPX-", LETTERS, 28),
    ("slack token", "xoxb-", LETTERS, 50), ("stripe key", "sk_live_", LETTERS, 24), ("npm token", "npm_", LETTERS, 36),
    ("pypi token", "pypi-AgE", LETTERS, 120), ("digitalocean token", "dop_v1_", HEX, 64), ("databricks token", "dapi", HEX, 32),
    ("shopify token", "shpat_", HEX, 32), ("linear key", "lin_api_", LETTERS, 40), ("vault token", "hvs.", LETTERS, 95),
]  # fmt: skip


def made(begin, letters, length, seed=0):
    chance = random.Random(f"{begin}{seed}")
    return begin + "".join(chance.choices(letters, k=length))


def all_made(seed):
    found = [(kind, made(begin, letters, length, seed)) for kind, begin, letters, length in FORMS]
    old = made("sk-", LETTERS, 20, seed) + "T3Blbk" + "FJ" + made("", LETTERS, 20, seed)
    parts = made("SG.", LETTERS, 22, seed) + "." + made("", LETTERS, 43, seed)
    fine = made("github_pat_", LETTERS, 22, seed) + "_" + made("", LETTERS, 59, seed)
    return [*found, ("openai key", old), ("sendgrid key", parts), ("github token", fine)]


@pytest.mark.parametrize(
    "around", ["{}", "KEY={}\n", '{{"key": "{}"}}', "export K='{}';", "Bearer {}.", "a:{},b", "({})", "\\n{}\\n"]
)
def test_every_form_is_found_wherever_it_stands(around):
    for seed in range(5):
        for kind, secret in all_made(seed):
            text = f"é {around.format(secret)} and so on"
            if around == "\\n{}\\n":  # as JSON writes it: the letter before belongs to the escape
                text = json.dumps(f"\n{secret}\n")
            found = [(one.kind, text[one.start : one.end]) for one in find_secrets(text)]
            assert [named for named, _ in found] == [kind], (text, found)
            assert found[0][1].startswith(secret[:40]) and secret.startswith(found[0][1][:40])
            clean, kinds = redact(text)
            assert kinds == [kind] and secret not in clean and f"[{kind}]" in clean


def test_what_stands_beside_a_name_is_found_alone():
    aws = made("", LETTERS + "/+", 40)
    for text in (
        f"aws_secret_access_key = {aws}",
        f'"SecretAccessKey": "{aws}"',
        f'{{\\"secretAccessKey\\":\\"{aws}\\"}}',
    ):
        clean, kinds = redact(text)
        assert kinds == ["aws secret key"] and aws not in clean and "ccess" in clean
    azure = made("", LETTERS, 86) + "=="
    assert redact(f"AccountName=x;AccountKey={azure};") == (
        "AccountName=x;AccountKey=[azure storage key];",
        ["azure storage key"],
    )
    bot = "1234567890" + ":AA" + made("", LETTERS, 33)
    assert redact(f"bot {bot}")[1] == ["telegram token"]
    key = made("", LETTERS, 64) + "\n"
    pem = f"-----BEGIN RSA PRIVATE KEY-----\n{key * 20}-----END RSA PRIVATE KEY-----"
    assert redact(f"cat id_rsa\n{pem}\n$")[1] == ["private key"] and key.strip() not in redact(pem)[0]
    assert (
        redact("psql postgres://app:h4rd2Gue55@db.internal:5432/x")[0]
        == "psql postgres://app:[password in a url]@db.internal:5432/x"
    )


NO_SECRETS = [
    "sk-ant-api03-" + "x" * 95, "AKIA" + "IOSFODNN7EXAMPLE", "ghp_" + "0" * 36, "postgres://user:password@localhost/db",
    "https://user:<token>@host",
    "redis://:$REDIS_PASSWORD@host", "task-" + "a1b2c3d4" * 4, "disk-" + "0123456789abcdef" * 2,
    "my_npm_" + "a" * 40,
    "sha256:" + "0123456789abcdef" * 4, "src/sk-/x", "AIzaSyD" + "-your-key-here",
    "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
    "https://example.com/a:b@c", "git@github.com:org/repo.git",
    "sk-learn", "import xoxb", "C:\\Users\\sk-1", "{user}:{password}@host",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_SECRETS)
def test_placeholders_paths_and_digests_are_none(text):
    assert find_secrets(f"see {text} there") == []


def test_real_tool_output_has_none():
    for path in FILES.iterdir():
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "replace")
        assert find_secrets(text) == [], path.name


def test_a_planted_secret_is_found_in_real_tool_output():
    text = gzip.decompress((FILES / "swe_agent_pandas.traj.gz").read_bytes()).decode()
    secrets = [secret for _, secret in all_made(1)]
    step = len(text) // len(secrets)
    planted = "".join(f" {secret} {text[n * step : (n + 1) * step]}" for n, secret in enumerate(secrets))
    clean, kinds = redact(planted)
    assert len(kinds) == len(secrets) and not any(secret in clean for secret in secrets)


def test_hostile_text_takes_no_longer():
    for piece in (
        "://",
        "-----BEGIN ",
        "sk-",
        "://a:" + "b" * 80,
        "AccountKey=",
        ":AA",
        "-----BEGIN PRIVATE KEY-----" + "A" * 100,
    ):
        assert find_secrets(piece * 20_000) == []
