"""Promise 10. No telemetry, no download at import; keys never reach the log, an error or an export; an answer that echoes
a managed key is stored redacted and marked.

Not covered: a key that a user writes into a prompt, a recipe or a base address.
"""

import subprocess
import sys
from pathlib import Path

from aiohttp import web

from tests.server import chat

KEY = "sk-very-secret-0123456789abcdef"


def everything_written(folder):
    return [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_a_run_leaves_no_key_anywhere(home, serve, sandboxed):
    async def echoing(server, body):
        number = int(body["messages"][-1]["content"].split()[-1])
        if number == 0:
            return web.json_response({"error": {"message": f"wrong key {KEY}"}}, status=400)
        return web.json_response(chat(f"your key is {KEY}\n```python\ndef f(x): return x + 1\n```"))

    server = serve(echoing)
    home.add_mock(server.url, "mock", "--unmetered", "--key-env", "MOCK_KEY")
    home.prompts(3)
    ran = home("run", home.recipe(), "--debug", MOCK_KEY=KEY)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}", "it was used"
    home("dataset", "export", "example", "out.jsonl", MOCK_KEY=KEY)
    assert "[redacted key]" in (home.folder / "out.jsonl").read_text()
    assert everything_written(home.folder) == []
    assert KEY not in ran.out + ran.err


def test_the_search_for_keys_can_find_one(home):
    (home.home / "leak").write_text(f"oops {KEY}")
    assert len(everything_written(home.folder)) == 1


def test_a_missing_key_is_asked_for_by_the_name_of_its_variable(home, serve):
    home.add_mock(serve().url, "mock", "--unmetered", "--key-env", "MOCK_KEY")
    home.prompts(1)
    ran = home("run", home.recipe(), code=2)
    assert "MOCK_KEY is not set" in ran.err


def test_errors_of_the_connection_do_not_show_the_key(home):
    home.add_mock("http://127.0.0.1:9/v1", "mock", "--unmetered", "--key-env", "MOCK_KEY")
    home.prompts(1)
    ran = home("run", home.recipe(), code=1, MOCK_KEY=KEY)
    assert KEY not in ran.out + ran.err
    assert everything_written(home.folder) == []


NO_NETWORK = """
import socket, sys
def refuse(*arguments, **options):
    raise SystemExit("a socket was opened")
socket.socket.connect = socket.socket.bind = socket.socket.sendto = refuse
socket.create_connection = refuse
socket.getaddrinfo = refuse
import stillhouse.home.open_home, stillhouse.cli.main, stillhouse.teachers.http_teacher, stillhouse.runs.report.render
import stillhouse.runs.distil
import stillhouse.passport.write_passport
heavy = {"torch", "transformers", "pyarrow", "altair"} & set(sys.modules)
assert not heavy, f"imported without need: {heavy}"
"""


def test_importing_everything_opens_no_socket_and_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", NO_NETWORK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout


def test_help_loads_no_database_and_no_model():
    code = (
        "import sys; from stillhouse.cli.main import main; main(['--help']); main(['run', '--help']);"
        "sys.exit(str({'sqlalchemy', 'torch', 'aiohttp', 'rich'} & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) in ((0, ""), (1, "")), done.stderr


def test_the_report_loads_nothing_from_anywhere(home, serve, sandboxed):
    home.add_mock(serve().url)
    home.prompts(2)
    done = home("run", home.recipe(samples=2), "--json").json
    page = Path(done["report"]).read_text(encoding="utf-8")
    for sign in ("http://", "https://", "<script", "<link", "@import", "url("):
        found = page.replace("http://www.w3.org/", "").replace("https://www.w3.org/", "").replace("url(#arrow)", "")
        assert sign not in found, sign
