#!/usr/bin/env python3
"""Goal: settings from keywords, TOML and files are one and the same, and what is wrong is said in the words of C++."""

import datetime
import os
import pathlib
import unittest

import worlds

import tiercel


class Configuration(unittest.TestCase):
    def test_keywords_toml_and_files_say_the_same(self):
        folder = pathlib.Path(worlds.folder(self))
        text = ('[host]\ncapacity = "8GiB"\nprefault = false\nmin_slot_bytes = 131072\n'
                f'[disk]\ndirectories = ["{folder}"]\ncapacity = "4TiB"\n[limits]\npinned_percent = "50%"\n')
        path = folder / "tiercel.toml"
        path.write_text(text)
        from_keywords = tiercel.Config(host={"capacity": "8GiB", "prefault": False, "min_slot_bytes": 128 << 10},
                                       disk={"directories": [folder], "capacity": 4 << 40},
                                       limits={"pinned_percent": "50%"})
        for config in (from_keywords, tiercel.Config(text), tiercel.Config.from_file(str(path))):
            self.assertEqual((config.host.capacity, config.host.prefault, config.host.min_slot_bytes),
                             (8 << 30, False, 128 << 10))
            self.assertEqual((config.disk.directories, config.disk.capacity), ([str(folder)], 4 << 40))
            self.assertEqual(config.limits.pinned_percent, 50)

    def test_keywords_go_over_what_was_there(self):
        base = tiercel.Config('host.capacity = "8GiB"\nworkers.threads = 3', host={"capacity": "1GiB"})
        self.assertEqual((base.host.capacity, base.workers.threads), (1 << 30, 3))
        self.assertEqual(tiercel.Config().host.capacity, 0)

    def test_every_form_of_value(self):
        config = tiercel.Config(limits={"pin_max_ttl": datetime.timedelta(minutes=1)}, integrity={"mode": "paranoid"},
                                tenants={"search": {"host_cap": "50%"}}, disk={"directories": ['/a"\\ \u00e9'], "capacity": "1GiB"})
        self.assertEqual(config.disk.directories, ['/a"\\ \u00e9'])
        with self.assertRaisesRegex(TypeError, "host.capacity: set"):
            tiercel.Config(host={"capacity": {1}})

    def test_errors_are_the_sentences_of_cpp(self):
        with self.assertRaises(tiercel.UnknownKeyError) as caught:
            tiercel.Cache.open(host={"capacty": "8GiB"})
        self.assertEqual(str(caught.exception), "keywords:1: unknown key host.capacty; did you mean host.capacity?")
        self.assertEqual(caught.exception.code, tiercel.ErrorCode.UNKNOWN_KEY)
        self.assertIsInstance(caught.exception, ValueError)
        with self.assertRaisesRegex(tiercel.InvalidArgumentError, "host.capacity: 1KiB is out of range; valid: "):
            tiercel.Config(host={"capacity": 1024})
        with self.assertRaises(tiercel.NotFoundError) as caught:
            tiercel.Config.from_file("/nowhere/tiercel.toml")
        self.assertEqual(caught.exception.os_error, 2)

    def test_every_code_has_its_exception(self):
        codes = {error.code: error for error in vars(tiercel.errors).values()
                 if isinstance(error, type) and issubclass(error, tiercel.Error) and error is not tiercel.Error}
        self.assertEqual(set(codes), set(tiercel.ErrorCode))
        for code, error in codes.items():
            name = tiercel.error_name(code).replace("_", "") + "error"
            self.assertEqual(error.__name__.lower(), name)
            self.assertIs(getattr(tiercel, error.__name__), error)

    def test_bytes_as_text(self):
        self.assertEqual(tiercel.parse_bytes("1.5GiB"), 3 << 29)
        self.assertEqual(tiercel.format_bytes(1 << 28), "256MiB")
        with self.assertRaises(tiercel.InvalidArgumentError):
            tiercel.parse_bytes("many")

    def test_a_digest_of_a_file(self):
        path = os.path.join(worlds.folder(self), "weights")
        with open(path, "wb") as file:
            file.write(b"abc")
        self.assertEqual(tiercel.file_digest(path).hex(),
                         "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        with self.assertRaises(tiercel.Error):
            tiercel.file_digest(path + "-missing")


if __name__ == "__main__":
    unittest.main()
