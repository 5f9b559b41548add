#!/usr/bin/env python3
"""Goal: what else than tokens decides KV is in the name of its blocks: a LoRA adapter by its files, not its name, a salt, and a
tenant that the service names; settings that are wrong are refused by name. Without vLLM: plain objects stand for its requests."""

import http.server
import os
import socketserver
import threading
import types
import unittest
import unittest.mock

import worlds

import tiercel
from tiercel.vllm.keys import AdapterDigests, NoKeysError, digest_directory, extra_keys
from tiercel.vllm.settings import read_settings
from tiercel.vllm.tenants import Tenants


def request(**more):
    return types.SimpleNamespace(mm_features=[], prompt_embeds=None, lora_request=None, cache_salt=None, **more)


def lora(number, path, load_inplace=False):
    return types.SimpleNamespace(lora_int_id=number, lora_name="adapter", lora_path=path, load_inplace=load_inplace)


class Keys(unittest.TestCase):
    def setUp(self):
        self.session = worlds.open_session(self.enterContext(worlds.open_cache()))
        self.adapters = AdapterDigests()

    def first_hash(self, adapters=None, epoch=b"", tenant="", **more):
        made = request()
        for name, value in more.items():
            setattr(made, name, value)
        return tiercel.BlockChain(self.session.space(tenant), range(32), extra_keys(made, adapters or self.adapters, epoch, tenant))[0]

    def adapter(self, content):
        folder = worlds.folder(self)
        for name, text in content.items():
            with open(os.path.join(folder, name), "w") as file:
                file.write(text)
        return folder

    def test_all_of_them_are_apart(self):
        one, two = self.adapter({"a.safetensors": "1"}), self.adapter({"a.safetensors": "2"})
        hashes = [self.first_hash(), self.first_hash(cache_salt="x"), self.first_hash(cache_salt="y"), self.first_hash(epoch=b"1"),
                  self.first_hash(lora_request=lora(1, one)), self.first_hash(lora_request=lora(2, two)),
                  self.first_hash(lora_request=lora(1, one), cache_salt="x"), self.first_hash(cache_salt="z", tenant="z"),
                  self.first_hash(cache_salt="y", tenant="y"), self.first_hash(cache_salt="y", tenant="y", epoch=b"1"),
                  self.first_hash(cache_salt="y", tenant="y", lora_request=lora(1, one))]
        self.assertEqual(len(set(hashes)), len(hashes))

    def test_an_adapter_is_its_files_whatever_it_is_called(self):
        content = {"adapter_config.json": "{}", "a.safetensors": "1"}
        first = self.first_hash(lora_request=lora(1, self.adapter(content)))
        self.assertEqual(self.first_hash(AdapterDigests(), lora_request=lora(7, self.adapter(content))), first)
        for other in ({**content, "a.safetensors": "2"}, {**content, "b": ""}, {"adapter_config.json": "{}", "b.safetensors": "1"}):
            self.assertNotEqual(self.first_hash(AdapterDigests(), lora_request=lora(1, self.adapter(other))), first, other)

    def test_files_that_change_under_a_loaded_adapter(self):
        folder = self.adapter({"a.safetensors": "1"})
        first = self.first_hash(lora_request=lora(1, folder))
        self.assertEqual(self.first_hash(lora_request=lora(1, folder)), first)
        with open(os.path.join(folder, "a.safetensors"), "w") as file:
            file.write("22")
        with self.assertRaisesRegex(NoKeysError, "have changed since it was loaded"):
            self.first_hash(lora_request=lora(1, folder))
        loaded_again = self.first_hash(lora_request=lora(1, folder, load_inplace=True))
        self.assertNotEqual(loaded_again, first)
        self.assertEqual(self.first_hash(lora_request=lora(1, folder)), loaded_again)

    def test_requests_without_keys(self):
        for more, pattern in (({"mm_features": [1]}, "images"), ({"prompt_embeds": 1}, "embeddings"),
                              ({"lora_request": lora(1, "/nowhere")}, "/nowhere is no folder"),
                              ({"lora_request": lora(1, worlds.folder(self))}, "no folder with files")):
            with self.assertRaisesRegex(NoKeysError, pattern):
                self.first_hash(**more)


class DigestFiles(unittest.TestCase):
    def test_the_oldest_go_where_there_are_too_many_and_nothing_else_does(self):
        cache, models = worlds.folder(self), worlds.folder(self)
        self.enterContext(unittest.mock.patch.dict(os.environ, TIERCEL_CACHE_DIR=cache))
        for number in range(1300):
            path = os.path.join(cache, f"tiercel-digest-0-{number:x}" if number < 1200 else f"other-{number}")
            with open(path, "w"):
                pass
            os.utime(path, (number, number))
        self.assertEqual(digest_directory(), cache)
        left = os.listdir(cache)
        self.assertEqual(sorted(int(name[17:], 16) for name in left if name.startswith("tiercel-digest-0-")), list(range(200, 1200)))
        self.assertEqual(len(left), 1100)
        adapter = os.path.join(models, "a.safetensors")
        for number in range(5):
            with open(adapter, "w") as file:
                file.write(str(number))
            AdapterDigests().digest(1, models, False)
            os.rename(adapter, os.path.join(worlds.folder(self), "kept"))
        names = [name for name in os.listdir(cache) if name.startswith("tiercel-digest-")]
        self.assertEqual(len(names), 1001, "one is written after it was looked at")
        self.assertEqual(sum(not name.startswith("tiercel-digest-0-") for name in names), 5)

    def test_these_tests_have_a_folder_of_their_own(self):
        own = os.environ.get("TIERCEL_CACHE_DIR")
        self.assertTrue(own and own != os.path.expanduser("~/.cache/tiercel"), "set by the test's environment")


class Door(socketserver.UnixStreamServer):
    """The service's socket for people, which says what it is told to."""

    def __init__(self, folder):
        self.status, self.answer = 200, b"{}"
        self.asked, self.free = threading.Semaphore(0), threading.Event()
        self.free.set()
        super().__init__(folder + "/s.sock.admin", Answer)

    def says(self, text, status=200):
        self.answer, self.status = text.encode(), status


class Answer(http.server.BaseHTTPRequestHandler):
    def address_string(self):
        return ""

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.server.asked.release()
        self.server.free.wait(30)
        assert (self.path, self.rfile.read(int(self.headers["Content-Length"]))) == ("/admin/quota", b"{}")
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.answer)


def with_settings(**names):
    entries = ", ".join(f'{{"tenant": "{name}", "configured": {str(known).lower()}}}' for name, known in names.items())
    return f'{{"tenants": [{entries}]}}'


class WhichTenants(unittest.TestCase):
    def setUp(self):
        self.folder = worlds.folder(self)
        self.door = Door(self.folder)
        thread = threading.Thread(target=self.door.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(lambda: (self.door.shutdown(), thread.join(), self.door.server_close()))
        self.now = 100.0

    def tenants(self):
        made = Tenants(self.folder + "/s.sock", lambda: self.now)
        self.assertTrue(self.door.asked.acquire(timeout=30))
        return made

    def test_those_with_settings_and_never_the_default(self):
        self.door.says(with_settings(search=True, used=False, default=True))
        tenants = self.tenants()
        self.assertEqual([tenants.of(salt) for salt in ("search", "used", "default", "other", "", None)], ["search", "", "", "", "", ""])

    def test_it_asks_again_when_the_answer_is_old_and_waits_for_nothing(self):
        self.door.says(with_settings(search=True))
        tenants = self.tenants()
        self.door.says(with_settings(chat=True))
        self.now += 9.9
        self.assertEqual(tenants.of("chat"), "")
        self.assertFalse(self.door.asked.acquire(blocking=False))
        self.now += 0.2
        self.assertEqual(tenants.of(None), "")
        self.assertFalse(self.door.asked.acquire(blocking=False), "for requests without a salt")
        self.door.free.clear()
        self.assertEqual((tenants.of("search"), tenants.of("chat"), tenants.of("chat")), ("search", "", ""))
        self.door.free.set()
        worlds.until(lambda: tenants.of("chat") == "chat", "the new answer")
        self.assertEqual(tenants.of("search"), "")
        self.assertTrue(self.door.asked.acquire(blocking=False))
        self.assertFalse(self.door.asked.acquire(blocking=False), "one question at a time")

    def test_without_an_answer_what_was_known_holds(self):
        self.door.says(with_settings(search=True))
        tenants = self.tenants()
        for number, (text, status) in enumerate((("no", 403), ("not json", 200), ("{}", 200), ('{"tenants": [1]}', 200))):
            self.door.says(text, status)
            self.now += 11
            self.assertEqual(tenants.of("search"), "search")
            self.assertTrue(self.door.asked.acquire(timeout=30), number)
            worlds.until(lambda: not tenants._asking, "the answer")
        self.assertEqual(tenants.of("search"), "search")

    def test_a_service_that_tells_nothing_has_none(self):
        self.assertEqual(Tenants("/nowhere/s.sock").names, frozenset())
        self.door.says("not this user", 403)
        self.assertEqual(self.tenants().names, frozenset())


class Settings(unittest.TestCase):
    def setUp(self):
        self.enterContext(unittest.mock.patch.dict(os.environ))
        os.environ.pop("TIERCEL_SOCKET", None)

    def test_what_is_right(self):
        self.assertTrue(read_settings({}).starts_service)
        settings = read_settings({"host_bytes": "8GiB", "arguments": ["--disk", "/nvme"], "config": "/etc/t.toml", "load_deadline_s": 1})
        options = settings.start_options()
        self.assertEqual((options.config, options.arguments), ("/etc/t.toml", ["--disk", "/nvme", "--host-capacity", "8GiB"]))
        self.assertEqual(read_settings({"host_bytes": 1 << 30}).host_bytes, str(1 << 30))
        self.assertFalse(read_settings({"socket": "/run/s"}).starts_service)
        os.environ["TIERCEL_SOCKET"] = "/run/s"
        self.assertFalse(read_settings({}).starts_service)

    def test_what_is_wrong(self):
        for given, pattern in (({"sokket": "/x"}, "sokket: unknown key; did you mean 'socket'"), ({"zzz": 1}, "zzz: unknown key; known keys: socket"),
                               ({"socket": "x"}, "socket: 'x' must be an absolute path"), ({"socket": 1}, "socket: 1 must be a string"),
                               ({"host_bytes": "many"}, "host_bytes: .*many"), ({"host_bytes": True}, "host_bytes: True"),
                               ({"arguments": "--disk"}, "arguments: '--disk' must be a list"),
                               ({"load_deadline_s": 0}, "load_deadline_s: 0 must be seconds, 0.001 to 300"),
                               ({"load_deadline_s": True}, "load_deadline_s: True"), ({"layout": "hnd"}, "layout: 'hnd' must be \"HND\" or \"NHD\""),
                               ({"layout": None}, "layout: None must be"),
                               ({"socket": "/x", "host_bytes": "1GiB"}, "host_bytes: is of a private service, and socket '/x'")):
            with self.subTest(given), self.assertRaisesRegex(ValueError, pattern):
                read_settings(given)


if __name__ == "__main__":
    unittest.main()
