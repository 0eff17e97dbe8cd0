"""Hosts: every way to write one leads to the same, and what is below a known one is known."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.errors import TeacherContradiction
from stillhouse.nouns import Channel, Origin, Stamp, Teacher, TeacherKind, Use
from stillhouse.permission.decide import Door, Policy
from stillhouse.permission.known_hosts import (
    _hosts,
    asked_at,
    documents_of,
    host_of,
    is_this_machine,
    known_host,
    known_provider,
)
from stillhouse.permission.known_origins import check_declaration

# Those of the hunt that found most of them unknown, and others of their kinds.
KNOWN = {
    "api.openai.com": "openai", "eu.api.openai.com": "openai", "us.api.openai.com": "openai", "api.anthropic.com": "anthropic",
    "x.services.ai.azure.com": "", "x.openai.azure.com": "", "bedrock-runtime.us-east-1.amazonaws.com": "",
    "bedrock-runtime.us-east-1.api.aws": "", "bedrock-runtime.cn-north-1.amazonaws.com.cn": "",
    "bedrock-runtime-fips.us-east-1.amazonaws.com": "", "bedrock-mantle.us-east-1.api.aws": "",
    "us-east5-aiplatform.googleapis.com": "", "aiplatform.googleapis.com": "", "models.github.ai": "",
    "models.inference.ai.azure.com": "", "api.githubcopilot.com": "", "api.individual.githubcopilot.com": "",
    "api.blackbox.ai": "",
    "dashscope.aliyuncs.com": "", "dashscope-intl.aliyuncs.com": "", "api.moonshot.cn": "moonshot",
    "api.moonshot.ai": "moonshot",
    "us-east-1.api.x.ai": "xai", "codestral.mistral.ai": "mistral", "api.z.ai": "zhipu", "open.bigmodel.cn": "zhipu",
    "api.minimax.io": "minimax", "api.groq.com": "", "api.cerebras.ai": "", "api.deepinfra.com": "", "api.sambanova.ai": "",
    "generativelanguage.googleapis.com": "google", "ark.cn-beijing.volces.com": "", "api.together.ai": "", "openrouter.ai": "",
    "chatgpt.com": "openai", "chat.openai.com": "openai", "claude.ai": "anthropic",
}  # fmt: skip
UNKNOWN = ["notopenai.com", "openai.com.evil.org", "s3.amazonaws.com", "my-bucket.s3.eu-west-1.amazonaws.com",
           "ec2-3-4-5-6.compute-1.amazonaws.com", "storage.googleapis.com", "127.0.0.1", "localhost", "xyz.ai", "api.xx.ai",
           "myopenai.azure.com.example", "blob.core.windows.net", "huggingface.co", "github.com"]  # fmt: skip
FORMS = {
    "plain": "https://{}/v1", "port": "https://{}:8443/v1", "dot": "https://{}./v1", "upper": "HTTPS://{U}/V1",
    "wide": "https://{W}/v1",
    "ideographic dots": "https://{D}/v1", "halfwidth dots": "https://{H}/v1", "user": "https://me:secret@{}/v1",
    "below": "https://a.b.{}/v1",
    "escaped": "https://{E}/v1", "bare": "{}", "bare with port": "{}:443",
}  # fmt: skip


def written(form: str, host: str) -> str:
    return FORMS[form].format(
        host,
        U=host.upper(),
        W="".join(chr(ord(letter) + 0xFEE0) if letter.isalnum() else letter for letter in host),
        D=host.replace(".", "。"),
        H=host.replace(".", "｡"),
        E=host.replace(".", "%2e"),
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_known_host_is_known_however_it_is_written(form):
    found = {host: known_host(written(form, host)) for host in KNOWN}
    assert {host: known.lab for host, known in found.items() if known} == KNOWN


@pytest.mark.parametrize("form", ["plain", "port", "upper", "wide", "below", "bare"])
def test_what_only_looks_like_one_is_not(form):
    assert [host for host in UNKNOWN if known_host(written(form, host))] == []


def test_what_people_use_by_hand_is_personal():
    assert known_host("https://chat.openai.com").channel is Channel.PERSONAL
    assert known_host("https://api.openai.com").channel is Channel.OFFICIAL


@given(st.text(max_size=60))
def test_any_text_is_an_address_that_folds_once(text):
    assert host_of(host_of(text)) == host_of(text) or not host_of(host_of(text))
    known_host(text)


def test_every_known_host_is_bound_by_terms_that_have_a_name():
    """Where nobody has read them, they are unknown by that name, and a licence of the model alone opens nothing."""
    hosts = [known for known in _hosts().host if known.channel is not Channel.PERSONAL]
    assert [known.host for known in hosts if not documents_of(known)] == []
    for known in hosts:
        address = f"https://{known.host.replace('*', 'x')}/v1"
        teacher = Teacher(
            name="t", kind=TeacherKind.OPENAI, model="m", lab=known.lab or "acme", channel=known.channel, base_url=address,
            terms=("licence/mit",),
        )  # fmt: skip
        with pytest.raises(TeacherContradiction, match="is bound by terms of"):
            check_declaration(teacher)
        check_declaration(msgspec.structs.replace(teacher, terms=("licence/mit", *documents_of(known))))


def test_what_nobody_read_allows_nothing_but_to_be_kept():
    unread = documents_of(known_host("https://api.sambanova.ai/v1"))
    assert unread == ("SambaNova/Terms of Service",)
    stamp = Stamp(
        origin=Origin.TEACHER, lab="meta", model="llama-3.3-70b", channel=Channel.CLOUD, terms=(*unread, "licence/llama-3.3"),
        day="2026-05-01",
    )  # fmt: skip
    decided = Policy().check(Door.USE, (stamp,), Use.TRAIN)
    assert not decided.allowed
    assert "SambaNova/Terms of Service" in decided.reason
    assert Policy().check(Door.USE, (stamp,), Use.STORE).allowed


@pytest.mark.parametrize(
    "terms", ["ChatGPT/Developer Terms", "ChatGPT/Acceptable Use Policy", "ChatGPT/Developer Terms@2025-12-17"]
)
def test_what_is_about_apps_or_beside_an_agreement_is_none(terms):
    teacher = Teacher(
        name="t", kind=TeacherKind.OPENAI, model="gpt-4o", lab="openai", channel=Channel.OFFICIAL, terms=(terms,),
        base_url="https://api.openai.com/v1",
    )  # fmt: skip
    with pytest.raises(TeacherContradiction, match="is bound by terms of ChatGPT"):
        check_declaration(teacher)
    check_declaration(msgspec.structs.replace(teacher, terms=(terms, "ChatGPT/Commercial Terms")))


@pytest.mark.parametrize(
    "host",
    ["bedrock-outputs.s3.amazonaws.com", "bedrock-vllm.elb.us-east-1.amazonaws.com", "s3.us-east-1.api.aws",
     "lambda.us-east-1.api.aws",
     "my.bedrock-runtime.example.com"],
)  # fmt: skip
def test_what_stands_below_a_cloud_is_not_all_its_service(host):
    assert known_host(f"https://{host}/v1") is None


@pytest.mark.parametrize(
    ("name", "host", "channel"),
    [("deepseek", "deepseek.com", "official"), ("openai", "openai.com", "official"), ("mistral", "mistral.ai", "official"),
     ("Groq", "groq.com", "cloud"), ("together", "together.xyz", "cloud"), ("openrouter", "openrouter.ai", "intermediary"),
     ("fireworks-ai", "fireworks.ai", "cloud"), ("GitHub", "models.inference.ai.azure.com", "cloud")],
)  # fmt: skip
def test_a_provider_s_name_means_its_api(name, host, channel):
    known = known_provider(name)
    assert known is not None
    assert (known.host, str(known.channel)) == (host, channel)


@pytest.mark.parametrize("name", ["api", "cloud", "com", "", "www", "inference-of-ours"])
def test_a_word_of_an_address_is_no_provider(name):
    assert known_provider(name) is None


def test_azure_s_name_is_azure_s():
    assert known_provider("azure").services[0] in ("Azure",)


@pytest.mark.parametrize("port", [":443", ":0443", ""])
@pytest.mark.parametrize(
    "model", ["big-coder", "openai/big-coder", "big-coder:latest", "big-coder@1", "big_coder", "big-coder-2026-01-01"]
)
def test_one_model_at_one_place_however_it_is_written(port, model):
    def at(address, name):
        return asked_at(
            Teacher(
                name="t",
                kind=TeacherKind.OPENAI,
                model=name,
                lab="x",
                channel=Channel.CLOUD,
                terms=("a/b",),
                base_url=address,
            )
        )

    assert at(f"https://llm.rival.example{port}/v1", model) == at("https://llm.rival.example/v1", "big-coder")
    assert at("https://llm.rival.example:8443/v1", "big-coder") != at("https://llm.rival.example/v1", "big-coder")


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("http://127.1:4000/v1", True),
        ("http://0x7f000001/", True),
        ("http://2130706433/", True),
        ("http://[::ffff:127.0.0.1]:8000/", True),
        ("http://[::1]/", True),
        ("http://0.0.0.0:1/", True),
        ("http://me.localhost/", True),
        ("http://localhost.evil.com/", False),
        ("http://127.0.0.1.evil.com/", False),
        ("http://1.2.3.4/", False),
        ("http://10.0.0.7/", False),
        ("http://[::ffff:1.2.3.4]/", False),
    ],
)
def test_what_is_this_machine_and_what_is_not(address, here):
    assert is_this_machine(address) is here


RELAYS_AND_CLOUDS = [
    "api.cometapi.com", "inference.do-ai.run", "api-inference.modelscope.cn", "api.runpod.ai", "api.coze.com",
    "yunwu.ai", "www.dmxapi.cn", "token-plan.ap-southeast-1.maas.aliyuncs.com", "api.lkeap.cloud.tencent.com",
    "chatapi.akash.network", "api.gpt.ge", "fast-api.snova.ai", "runtime.sagemaker.us-east-1.amazonaws.com",
    "api.ai.prod.eu-central-1.aws.ml.hana.ondemand.com", "oai.hconeai.com", "api.llmgateway.io", "kilocode.ai",
    "api.synthetic.new", "api.publicai.co", "inference.api.nscale.com", "llm-gateway.assemblyai.com", "www.meta.ai",
]  # fmt: skip


def test_relays_and_clouds_are_known():
    assert [host for host in RELAYS_AND_CLOUDS if known_host(f"https://{host}/v1") is None] == []
