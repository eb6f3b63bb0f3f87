"""Object storage: nothing half-written is seen, runs go on from it, what cannot lie there is refused; with fsspec's
memory and local file systems. tests/harness asks a server of S3's protocol."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("fsspec")

import fsspec

from commands import done, run
from deepmmsearch.compose.data_build import DataRecipe
from deepmmsearch.compose.local_inputs import storage_keys, with_local_inputs
from deepmmsearch.compose.recipe import load_recipe
from deepmmsearch.errors import Failed, MissingExtra, UserError
from deepmmsearch.eval.run import EvalRun
from deepmmsearch.object_storage.filesystems import address_of, filesystem, inner_path, speaking
from deepmmsearch.object_storage.local_copies import copies, local_copy
from deepmmsearch.object_storage.remote_folders import MANIFEST, FilePiece, RemoteFolder
from deepmmsearch.object_storage.working_copy import WorkingCopy, put_new
from endpoints import Endpoint, endpoint, said
from part_runs import write_eval_recipe

PLACES = ["memory://bucket/mine", "file://{folder}/there/mine"]


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture(params=PLACES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param.format(folder=tmp_path))


@pytest.fixture(scope="module")
def server() -> Iterator[Endpoint]:
    with endpoint(lambda body: said("<reason>I know.</reason><answer>Balor</answer>")) as served:
        yield served


def fill(folder: Path, lines: int = 3) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "images/a.png").write_bytes(b"picture")
    (folder / "run.json").write_text(f"[{lines}]")
    with (folder / "trajectories.jsonl").open("a") as file:
        file.write("".join(f"line {n}\n" for n in range(lines)))


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found if not p.name.startswith(".")}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("s3://bucket/a", "s3://bucket/a"),
        (Path("s3://bucket/a/"), "s3://bucket/a"),
        (Path("hf://datasets/me/mine"), "hf://datasets/me/mine"),
        ("hf://datasets/me/mine@main/train.parquet", "hf://datasets/me/mine@main/train.parquet"),
        (Path("file:///tmp/a"), "file:///tmp/a"),
        ("GS://bucket/a b", "gs://bucket/a b"),
        ("runs/mine", None),
        ("https://host/a", None),
        ("C:/runs/mine", None),
        ("s3", None),
        ("s3:", None),
        ("module:VALUE", None),
    ],
)
def test_addresses(given: str | Path, found: str | None) -> None:
    assert address_of(given) == found


@pytest.mark.parametrize("given", ["s3://AKIA:geheim@bucket/a", "s3://bucket/a?key=geheim", "s3://b/a::zip://geheim"])
def test_addresses_hold_no_keys(given: str) -> None:
    with pytest.raises(UserError, match="Keys come from the environment") as problem:
        address_of(given)
    assert "geheim" not in str(problem.value)


def test_a_key_that_a_client_says_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI-bPxRfiCYEXAMPLEKEY")
    with pytest.raises(Failed) as problem, speaking("s3://b/a"):
        raise ConnectionError("signed with wJalrXUtnFEMI-bPxRfiCYEXAMPLEKEY, refused")
    assert "ConnectionError: signed with ***, refused" in str(problem.value)


def test_a_key_id_of_a_file_in_the_home_is_not_shown() -> None:
    with pytest.raises(Failed) as problem, speaking("s3://b/a"):
        raise PermissionError("InvalidAccessKeyId: AKIAFROMHOMEFILE12345")
    assert "InvalidAccessKeyId: ***)" in str(problem.value)


def test_a_missing_client_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.core

    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(MissingExtra, match=r"pip install 'deepmmsearch\[storage\]'"):
        filesystem("s3://bucket/a")


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "", ".ssh/key", "a\\b", "c:/x", "a/\0", "a/\ud800"])
def test_names_lead_nowhere_else(name: str) -> None:
    with pytest.raises(UserError):
        inner_path(name)


def test_a_manifest_of_somebody_else_writes_nowhere_else(tmp_path: Path, address: str) -> None:
    remote = RemoteFolder(address)
    piece = {"object": "a", "size": 1, "sha256": "0" * 64}
    remote.put("a", b"x")
    for files_ in ({"../../owned": [piece]}, {"a": [{**piece, "object": "../../../etc/passwd"}]}, {"a": 3}, []):
        remote.put(MANIFEST, json.dumps({"version": 1, "id": "i", "files": files_}).encode())
        with pytest.raises(UserError):
            local_copy(address)
    remote.put(MANIFEST, json.dumps({"version": 1, "id": "i", "files": {"a": [piece]}}).encode())
    with pytest.raises(Failed, match="is being changed, or is damaged"):
        local_copy(address)
    assert not list(tmp_path.rglob("owned"))


@pytest.mark.parametrize(
    "named", ["../../home/precious.txt", "/home/precious.txt", "images/../../x", "way/precious.txt"]
)
def test_a_manifest_of_somebody_else_removes_nothing_elsewhere(tmp_path: Path, named: str) -> None:
    address, precious = f"file://{tmp_path}/there/mine", tmp_path / "home/precious.txt"
    precious.parent.mkdir()
    precious.write_text("mine")
    with WorkingCopy(tmp_path / "run", address):
        fill(tmp_path / "run")
    (tmp_path / "there/mine/way").symlink_to(precious.parent)
    manifest = tmp_path / "there/mine" / MANIFEST
    found = json.loads(manifest.read_text())
    found["files"]["zz.json"] = [{"object": named, "size": 1, "sha256": "0" * 64}]
    manifest.write_text(json.dumps(found))
    before = files(tmp_path / "there")
    refused = pytest.raises((UserError, Failed), match=r"not a name that is written here|leads out of that folder")
    with refused, WorkingCopy(tmp_path / "run", address):
        fill(tmp_path / "run", 2)
    assert precious.read_text() == "mine"
    assert before.keys() <= files(tmp_path / "there").keys()
    for write in (
        lambda: RemoteFolder(address).put(named, b"x"),
        lambda: RemoteFolder(address).remove(["run.json", named]),
    ):
        with pytest.raises(UserError):
            write()
    assert precious.read_text() == "mine" and "run.json" in files(tmp_path / "there/mine")


@pytest.mark.parametrize(
    "written",
    [
        "[" * 200_000,
        '{"version": 1, "id": "i", "files": {"a": [{"object": "a", "size": 1e400, "sha256": "%s"}]}}',
        '{"version": 1, "id": "i", "files": {"a": [{"object": "a", "size": ' + "9" * 5000 + ', "sha256": "%s"}]}}',
        '{"version": 1, "id": "i", "files": {"a\\ud800": [{"object": "a", "size": 1, "sha256": "%s"}]}}',
        '{"version": 1, "id": "i", "files": {"a": [{"object": "a\\ud800", "size": 1, "sha256": "%s"}]}}',
        '{"version": 1, "id": "i", "files": {"a": [{"object": "a", "size": -1, "sha256": "%s"}]}}',
        '{"version": 1, "id": "i", "files": {"a": [{"object": "b", "size": 1, "sha256": "a/b"}]}}',
        b"\xff\xfe{",
    ],
)
def test_a_damaged_manifest_is_told(tmp_path: Path, address: str, written: str | bytes) -> None:
    data = written if isinstance(written, bytes) else written.replace("%s", "0" * 64).encode()
    RemoteFolder(address).put(MANIFEST, data)
    with pytest.raises(UserError, match=r"cannot be read\. Another program wrote it|not a name that is written here"):
        local_copy(address)


@pytest.mark.parametrize("given", ["s3:///", "gs://", "file:///", "hf:////"])
def test_an_address_of_nothing_is_told(given: str) -> None:
    with pytest.raises(UserError, match=r"names no bucket and no folder\. Write it like \w+://bucket/folder"):
        address_of(given)


def test_an_address_that_is_not_in_object_storage_is_told() -> None:
    problem = run("data", "show", "https://me:geheim@h/x.parquet").exception
    assert isinstance(problem, UserError)
    assert str(problem).startswith("https://h/x.parquet is an address that questions are not read from. Download")


@pytest.mark.parametrize("within", ["asked/trajectories.jsonl", "asked"])
def test_a_manifest_above_hides_nothing_of_others(address: str, within: str) -> None:
    remote = RemoteFolder(address)
    with_ = {"trajectories.jsonl": b"mine", "run.json": b"mine too"}
    for name, data in with_.items():
        remote.put(f"user/asked/{name}", data)
    remote.put("theirs.jsonl", b"theirs")
    for named in ("notes.txt", "user/asked/trajectories.jsonl"):
        piece = {"object": "theirs.jsonl", "size": 6, "sha256": hashlib.sha256(b"theirs").hexdigest()}
        remote.put(MANIFEST, json.dumps({"version": 1, "id": "i", "files": {named: [piece]}}).encode())
        found = local_copy(f"{address}/user/{within}")
        assert (files(found) if found.is_dir() else {found.name: found.read_bytes()}).items() <= with_.items()
    assert "There is nothing at" in str(run("show", f"{address}/user/nothing").exception)


def test_a_folder_of_others_below_a_run_is_read(tmp_path: Path, address: str) -> None:
    with WorkingCopy(tmp_path / "run", address):
        fill(tmp_path / "run")
    RemoteFolder(address).put("extra/mine.jsonl", b'{"question": "Who?", "answers": ["Ada"]}\n')
    assert "1 loaded" in done("data", "show", f"{address}/extra")


def test_a_manifest_above_tells_of_what_was_put_up_with_it(tmp_path: Path, address: str) -> None:
    for lines in (3, 2, 4):
        with WorkingCopy(tmp_path / "run/a", address):
            fill(tmp_path / "run/a/within", lines)
    # what a killed run left, which no manifest names
    RemoteFolder(address).put("within/trajectories.0123456789abcdef.jsonl", b"left")
    assert files(local_copy(f"{address}/within")) == files(tmp_path / "run/a/within")
    for name, data in files(tmp_path / "run/a/within").items():
        assert local_copy(f"{address}/within/{name}").read_bytes() == data


def test_a_folder_that_grows_is_put_up_and_brought_back(tmp_path: Path, address: str) -> None:
    home = tmp_path / "run"
    with WorkingCopy(home, address):
        fill(home)
        (home / "calls.cassette").write_bytes(b"SQLite format 3\0" + bytes(100))
        (home / "calls.cassette-wal").write_bytes(b"what comes next")
        (home / ".lock").write_text("")
    first = RemoteFolder(address).manifest()
    assert first is not None and set(first.files) == {"images/a.png", "run.json", "trajectories.jsonl"}
    with WorkingCopy(home, address):
        fill(home, 2)
        with (home / "trajectories.jsonl").open("a") as file:
            file.write("half a li")
    second = RemoteFolder(address).manifest()
    assert second is not None
    # what grew is one object more, what was replaced another one
    assert second.files["trajectories.jsonl"][0] == first.files["trajectories.jsonl"][0]
    assert [piece.size for piece in second.files["trajectories.jsonl"]] == [21, 14]
    assert (
        second.files["images/a.png"] == first.files["images/a.png"]
        and second.files["run.json"] != first.files["run.json"]
    )
    fs, path = filesystem(address)
    named = {piece.object for pieces in second.files.values() for piece in pieces}
    assert {name.removeprefix(f"{path}/") for name in fs.find(path)} == {*named, MANIFEST}
    # on a machine that has nothing
    other = tmp_path / "other"
    with WorkingCopy(other, address):
        mine = files(home)
        del mine["calls.cassette"], mine["calls.cassette-wal"]
        assert files(other) == {**mine, "trajectories.jsonl": mine["trajectories.jsonl"].removesuffix(b"half a li")}
    assert files(local_copy(address)) == files(other)
    assert local_copy(f"{address}/images").name == "images" and local_copy(f"{address}/run.json").read_text() == "[2]"


@pytest.mark.parametrize("new", ["LINE 0\nline 1\nline 2\nline 3\n", "LINE 0\nline 1\nline 2\n", "line 0\n", ""])
@pytest.mark.parametrize("replaced", [False, True])
def test_what_no_longer_grows_is_put_up_as_it_is(tmp_path: Path, address: str, new: str, replaced: bool) -> None:
    place = tmp_path / "run/trajectories.jsonl"
    with WorkingCopy(tmp_path / "run", address, every=1000) as copy:
        fill(tmp_path / "run")
        copy._put_up()
        for text in ("something else\n" * 3, new) if replaced else (new,):
            if replaced:
                # the second one may bear the inode of the first
                (draft := tmp_path / "draft").write_text(text)
                draft.replace(place)
            else:
                place.write_text(text)
        copy._put_up()
        assert local_copy(f"{address}/trajectories.jsonl").read_text() == new


class DyingError(Exception):
    pass


@pytest.mark.parametrize("dies_at", range(1, 6))
def test_what_dies_while_it_is_put_up_leaves_the_former_state(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    home = tmp_path / "run"
    with WorkingCopy(home, address):
        fill(home)
    before = files(local_copy(address))
    fill(home, 2)
    (home / "images/b.png").write_bytes(b"another")
    put, done_before = RemoteFolder.put, []

    def dying(self: RemoteFolder, name: str, data: bytes | Path) -> None:
        done_before.append(name)
        if len(done_before) >= dies_at:
            raise Failed("no network")
        put(self, name, data)

    with monkeypatch.context() as patched:
        patched.setattr(RemoteFolder, "put", dying)
        if dies_at <= 4:
            with pytest.raises(Failed, match=r"no network Everything is in"), WorkingCopy(home, address):
                pass
            shutil.rmtree(copies())
            assert files(local_copy(address)) == before
    # and the next run puts all of it up
    with WorkingCopy(home, address):
        pass
    assert files(local_copy(address)) == files(home)


def test_a_run_that_fails_is_put_up_too(tmp_path: Path, address: str) -> None:
    home = tmp_path / "run"
    with pytest.raises(DyingError), WorkingCopy(home, address):
        fill(home)
        raise DyingError
    assert files(local_copy(address)) == files(home)


def test_it_is_put_up_while_the_run_goes_on(tmp_path: Path, address: str) -> None:
    import threading

    home, up = tmp_path / "run", threading.Event()
    with WorkingCopy(home, address, every=0.01) as copy:
        fill(home)
        for _ in range(2000):
            found = copy.remote.manifest()
            if found is not None and "trajectories.jsonl" in found.files:
                up.set()
                break
            threading.Event().wait(0.01)
    assert up.is_set()


def test_two_that_went_separate_ways_are_refused(tmp_path: Path, address: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with WorkingCopy(tmp_path / "a", address):
        fill(tmp_path / "a")
    fill(tmp_path / "b", 1)
    with pytest.raises(UserError, match="written apart from each other"), WorkingCopy(tmp_path / "b", address):
        pass
    shutil.rmtree(tmp_path / "b")
    with WorkingCopy(tmp_path / "b", address):
        fill(tmp_path / "b", 1)
    with pytest.raises(UserError, match="written apart from each other"), WorkingCopy(tmp_path / "a", address):
        pass
    # at the same time
    with pytest.raises(Failed, match="Another run has written"), WorkingCopy(tmp_path / "b", address):
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        with WorkingCopy(tmp_path / "c", address):
            fill(tmp_path / "c", 4)
        fill(tmp_path / "b", 1)


def test_what_others_put_there_is_not_written_over(tmp_path: Path, address: str) -> None:
    RemoteFolder(address).put("notes.txt", b"mine")
    fill(tmp_path / "run")
    with pytest.raises(UserError, match="did not write"), WorkingCopy(tmp_path / "run", address):
        pass
    with pytest.raises(UserError, match="is there already"):
        put_new(tmp_path / "run", address)


def test_what_others_put_there_is_read(tmp_path: Path, address: str) -> None:
    remote = RemoteFolder(address)
    remote.put("questions.jsonl", b'{"question": "Who?", "answers": ["Ada"]}\n')
    remote.put("images/a.png", b"picture")
    remote.fs.pipe_file(f"{remote.path}/.gitattributes", b"hidden")
    assert set(files(local_copy(address))) == {"questions.jsonl", "images/a.png"}
    assert "Who?" in done("data", "show", f"{address}/questions.jsonl")
    # renewed where it changed there, and what is gone is gone
    remote.put("questions.jsonl", b'{"question": "Whose flag?", "answers": ["Ada"]}\n')
    remote.remove(["images/a.png"])
    assert "Whose flag?" in done("data", "show", f"{address}/questions.jsonl")
    assert set(files(local_copy(address))) == {"questions.jsonl"}
    assert "There is nothing at" in str(run("data", "show", f"{address}/nothing.jsonl").exception)


def test_an_evaluation_goes_on_from_object_storage(tmp_path: Path, server: Endpoint, address: str) -> None:
    workflows = {"direct": {"kind": "direct"}, "again": {"kind": "direct"}}
    recipe = write_eval_recipe(tmp_path, server.url, 6, workflows=workflows)
    RemoteFolder(f"{address}-in").put("mine.jsonl", (tmp_path / "mine.jsonl").read_bytes())
    (tmp_path / "mine.jsonl").unlink()
    asked = f"benchmarks.0.name={address}-in/mine.jsonl"
    output = done("eval", recipe, asked, "--out", address, "--only", "direct")
    assert f"Everything is at {address} too" in output
    shutil.rmtree(tmp_path / "run")
    server.asked.clear()
    # another machine, which has nothing
    shutil.rmtree(tmp_path / "cache")
    done("eval", recipe, asked, "--out", address, f"output={tmp_path / 'elsewhere'}")
    assert len(server.asked) == 6
    assert len(EvalRun(tmp_path / "elsewhere").store.ids()) == 12
    there = EvalRun(local_copy(address))
    assert len(there.judged()) == 12 and (there.folder / "report.html").is_file()
    refused = run("report", address).exception
    assert isinstance(refused, UserError) and "--out" in str(refused)
    assert "report.md" in done("report", address, "--out", tmp_path / "report")
    assert "12" in done("show", f"{address}/trajectories")


def test_parts_are_merged_from_object_storage(tmp_path: Path, server: Endpoint, address: str) -> None:
    recipe = write_eval_recipe(tmp_path, server.url, 5)
    for number in (1, 2):
        done("eval", recipe, "--part", f"{number}/2", "--out", address)
    told = done("eval", "merge", tmp_path / "merged", f"{address}.part-*", "--no-report")
    assert "5 trajectories and 5 verdicts are new" in told and "none of the parts" not in told
    assert "No folder that was put up matches" in str(run("eval", "merge", tmp_path / "m", f"{address}.x*").exception)


def test_a_data_set_is_built_into_and_read_from_object_storage(tmp_path: Path, server: Endpoint, address: str) -> None:
    pytest.importorskip("imagehash")
    pytest.importorskip("matplotlib")
    from data_players import write_seeds

    seeds = write_seeds(tmp_path / "seeds", [{"question": f"{n}?", "answers": ["Balor"]} for n in range(4)])
    for path in seeds.parent.rglob("*"):
        if path.is_file():
            RemoteFolder(f"{address}-in").put(path.relative_to(seeds.parent).as_posix(), path)
    shutil.rmtree(seeds.parent)
    made = {
        "output": str(tmp_path / "run"),
        "seeds": {"benchmark": f"{address}-in", "shard": 2},
        "teacher": {"policy": {"kind": "chat", "base_url": server.url, "model": "vlm"}, "tools": {"kind": "none"}},
        "judge": {"rule": "exact"},
        "taxonomy": {"by": "known", "other": "Arts"},
        "balance": {"search_share": None},
        "splits": {"validation": 0},
    }
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(made))
    done("data", "build", tmp_path / "data.yaml", "--out", address)
    server.asked.clear()
    shutil.rmtree(tmp_path / "run")
    done("data", "build", tmp_path / "data.yaml", "--out", address)
    assert not server.asked
    # read by its address, and converted to another
    assert "Wrote 4 rows" in done("data", "convert", f"{address}/dataset", f"{address}-out/q.parquet", "--to", "verl")
    assert "Wrote 4 rows" in done("data", "convert", f"{address}/dataset", f"{address}-store", "--to", "store")
    assert "4 rows read, 4 loaded" in done("data", "show", f"{address}-out/q.parquet")
    assert run("sft", "atlas/sft", f"data=['{address}/nothing']", f"output={tmp_path / 'sft'}", "--dry-run").exit_code
    told = run("sft", "atlas/sft", f"data=['{address}/dataset']", f"output={tmp_path / 'sft'}", "--dry-run").output
    assert "dataset" not in told.partition("Makes")[0], told
    again = run("data", "convert", f"{address}/dataset", f"{address}-store", "--to", "store").exception
    assert isinstance(again, UserError) and "is there already" in str(again)
    assert "4 rows" in done("data", "convert", f"{address}-store", tmp_path / "sft.json", "--to", "sharegpt")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("output=s3://bucket/run", "output=s3://bucket/run: A run is written on a disk"),
        ("teacher.tools.index=s3://bucket/index", "An index is searched where it lies"),
        ("teacher.tools.recorder.cassette=gs://bucket/c.sqlite", "A cassette is a file of SQLite"),
    ],
)
def test_what_cannot_lie_there_is_refused(tmp_path: Path, change: str, said: str) -> None:
    made: dict[str, Any] = {
        "output": str(tmp_path / "run"),
        "seeds": {"benchmark": "memory://b/questions.jsonl"},
        "teacher": {"tools": {"kind": "local", "index": str(tmp_path / "index")}},
    }
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(made))
    recipe = load_recipe(tmp_path / "data.yaml", DataRecipe, [change])
    with pytest.raises(UserError, match=said):
        with_local_inputs(recipe)
    assert "AWS_SECRET_ACCESS_KEY" in storage_keys(recipe)
    assert not storage_keys(recipe.judge)


def test_a_piece_is_read_whole_or_not_at_all(tmp_path: Path, address: str) -> None:
    with WorkingCopy(tmp_path / "run", address):
        fill(tmp_path / "run")
    remote = RemoteFolder(address)
    manifest = remote.manifest()
    assert manifest is not None
    piece: FilePiece = manifest.files["images/a.png"][0]
    remote.put(piece.object, b"damaged")
    with pytest.raises(Failed, match="damaged"):
        local_copy(address)
    assert not [path for path in copies().rglob("a.png*") if path.is_file()]


@pytest.mark.parametrize("given", ["s3://bucket/merged", "gs://bucket/merged", "https://host/merged"])
def test_an_address_is_not_taken_for_a_folder(tmp_path: Path, server: Endpoint, given: str, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = write_eval_recipe(tmp_path, server.url, 2)
    done("eval", recipe, "--no-report")
    for problem in (
        run("eval", "merge", given, tmp_path / "run", "--no-report").exception,
        run("report", tmp_path / "run", "--out", given).exception,
        run("eval", recipe, "--out", "runs/mine").exception,
    ):
        assert isinstance(problem, UserError), problem
        assert "is an address" in str(problem) or "is not an address in object storage" in str(problem)
    assert not list(tmp_path.glob("*:"))


@pytest.mark.parametrize(
    ("command", "out", "said_"),
    [
        ("eval", "http://x/y", "is not an address in object storage"),
        ("data build", "s3://AKIA:geheim@bucket/x", "Keys come from the environment"),
        ("eval", "s3://bucket", "is a whole bucket"),
        ("eval", "gs://", "names no bucket"),
        ("data build", "file://{run}", "lies in"),
        ("eval", "file://{run}/within/up", "lies in"),
        ("data build", "memory://bucket/run", None),
        ("eval", "file://{run}-up", None),
    ],
)
def test_a_dry_run_checks_where_it_is_put_up(
    tmp_path: Path, server: Endpoint, command: str, out: str, said_: str | None
) -> None:
    recipe = write_eval_recipe(tmp_path, server.url, 2)
    if command != "eval":
        seeds = {"benchmark": str(tmp_path / "mine.jsonl")}
        teacher = {"policy": {"kind": "chat", "base_url": server.url, "model": "vlm"}, "tools": {"kind": "none"}}
        made = {"output": str(tmp_path / "run"), "seeds": seeds, "teacher": teacher, "judge": {"rule": "exact"}}
        made |= {"taxonomy": {"by": "known", "other": "Arts"}}
        (recipe := tmp_path / "data.yaml").write_text(yaml.safe_dump(made))
    given = [*command.split(), recipe, "--out", out.format(run=tmp_path / "run")]
    told = run(*given, "--dry-run")
    if said_ is None:
        assert "Nothing is missing." in told.output
        return
    assert told.exit_code == 2 and "Missing (1)" in told.output and said_ in told.output, told.output
    assert "geheim" not in told.output
    problem = run(*given).exception
    assert isinstance(problem, UserError) and said_ in str(problem)
    assert not (tmp_path / "run").exists()
