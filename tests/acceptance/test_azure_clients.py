"""Azure's client through the gateway: the deployment is the model."""

import json

import openai
import pytest

from tests.gateways import post, provider

ASK = [{"role": "user", "content": "Hi"}]
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def azure(start):
    asked = []

    async def noting(server, body):
        asked.append(server.request)
        return await provider(server, body)

    upstream, running, key = start(noting)
    upstream.asked = asked
    client = openai.AzureOpenAI(azure_endpoint=running.url, api_key=key, api_version="2024-10-21", max_retries=0)
    yield client, upstream, running, key
    client.close()


def test_azures_client_is_answered_and_recorded(azure, home):
    client, upstream, running, _ = azure
    answer = client.chat.completions.create(model="m", max_tokens=50, messages=ASK)
    assert answer.choices[0].message.content == "Hello"
    text = [
        chunk.choices[0].delta.content or ""
        for chunk in client.chat.completions.create(model="m", max_tokens=50, messages=ASK, stream=True)
        if chunk.choices
    ]
    assert "".join(text) == "Hello"
    assert [request.path for request in upstream.asked] == ["/v1/chat/completions"] * 2
    assert all("api-version" not in str(request.rel_url) for request in upstream.asked)
    assert all("api-key" not in request.headers for request in upstream.asked), "the client's key stays here"
    running.ended()
    assert home("dataset", "gather", "p", "--name", "asked", "--json").json["answers"] == 2


def test_a_deployment_of_the_path_counts(azure):
    _, upstream, running, key = azure
    body = json.dumps({"messages": ASK, "max_tokens": 50}).encode()
    path = "/openai/deployments/m/chat/completions?api-version=2024-10-21&x=1"
    assert post(running, key, body, path, **JSON)[0] == 200
    named = json.dumps({"messages": ASK, "model": "gpt-4o", "max_tokens": 50}).encode()
    assert post(running, key, named, path, **JSON)[0] == 200
    assert [body["model"] for body in upstream.requests] == ["m", "m"]
    assert [str(request.rel_url) for request in upstream.asked] == ["/v1/chat/completions?x=1"] * 2
    status, _, raw = post(running, key, body, "/openai/deployments/other/chat/completions", **JSON)
    assert status == 404 and b"model_not_allowed" in raw
    twice = b'{"model": "m", "model": "gpt-4o", "messages": []}'
    assert post(running, key, twice, path, **JSON)[0] == 400, "two parsers could read two models"
    assert post(running, key, b"[]", path, **JSON)[0] == 400
    assert post(running, key, body, "/openai/deployments/m/images/generations", **JSON)[0] == 404


def test_a_bad_key_opens_nothing(azure):
    _, upstream, running, _ = azure
    client = openai.AzureOpenAI(azure_endpoint=running.url, api_key="sth-no", api_version="1", max_retries=0)
    with client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="m", messages=ASK)
    assert upstream.requests == []
