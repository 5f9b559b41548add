"""What the tests of the vLLM connector share: a service, an engine in this process, and an auditor of its KV. They run with
vLLM for CPUs, and for GPUs with TIERCEL_TEST_MODEL_FOLDER at a folder with a config.json alone.

The auditor sees every block that is stored and every block that is loaded, in every test: what a load leaves in the engine's
pages must be, byte for byte, what was in them when a block of that name was stored, and pages that are being stored must not
change meanwhile."""

from __future__ import annotations

import gc
import hashlib
import os
import random
import shutil
import subprocess

import tempfile
import time

PROGRAM = os.environ["TIERCEL_TEST_PROGRAM"]
MODEL = os.environ["TIERCEL_TEST_MODEL_FOLDER"]
BLOCK = 128
PATIENCE_S = 60.0

os.environ.update({
    "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
    # A second thread waits by spinning, which costs more than it brings where a service runs beside it.
    "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
})
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

import tiercel  # noqa: E402
from vllm import LLM, SamplingParams  # noqa: E402


class Service:
    """`tiercel serve` in a folder of its own. Flags may be given again at a restart."""

    def __init__(self, *flags: str) -> None:
        self.folder = tempfile.mkdtemp(prefix="tiercel-vllm-")
        self.socket = os.path.join(self.folder, "s.sock")
        self.flags = flags or ("--host-capacity", "512MiB")
        self.process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [PROGRAM, "serve", *self.flags, "--host-prefault", "false", "--service-socket", self.socket, "--http-listen", "",
             "--metrics-listen", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers, "the service")

    def _answers(self) -> bool:
        try:
            tiercel.Client.connect(self.socket).close()
        except tiercel.Error:
            return False
        return True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def until(look, what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not look():
        if time.monotonic() > end:
            raise AssertionError(f"it did not come: {what}")
        time.sleep(0.01)


def tokens(seed: int, count: int) -> list[int]:
    return random.Random(seed).choices(range(1000, 40000), k=count)


def raw(tensor):
    """The bytes of a tensor, wherever it is, in its logical order."""
    return tensor.contiguous().view(-1).view(dtype=__import__("torch").uint8).cpu().numpy()


class HeldCopy:
    """A copy that does not end as long as it is held: so long as its bus takes, in the eyes of the connector."""

    def __init__(self, copy, is_held) -> None:
        self._copy, self._is_held = copy, is_held

    @property
    def done(self) -> bool:
        return not self._is_held() and self._copy.done

    @property
    def error(self):
        return self._copy.error

    @property
    def bytes(self) -> int:
        return self._copy.bytes

    def wait(self, timeout_s: float) -> bool:
        return self._copy.wait(timeout_s)


class HeldTransfer:
    def __init__(self, transfer, auditor) -> None:
        self._transfer, self._auditor = transfer, auditor

    def __getattr__(self, name):
        return getattr(self._transfer, name)

    def load(self, *arguments, **more):
        return HeldCopy(self._transfer.load(*arguments, **more), lambda: self._auditor.hold_loads)

    def wait_in_stream(self, stream, copy):
        self._transfer.wait_in_stream(stream, copy._copy)

    def store(self, *arguments, **more):
        return HeldCopy(self._transfer.store(*arguments, **more), lambda: self._auditor.hold_stores)


class Auditor:
    def __init__(self, scheduler, worker, kv) -> None:
        self.scheduler, self.worker, self.kv = scheduler, worker, kv
        self.stored: dict[bytes, set[bytes]] = {}  # name of a block: the bytes that were stored under it
        self.checked = 0
        self.wrong: list[str] = []
        self._names: dict[int, list[bytes]] = {}
        self._began: dict[int, list[bytes]] = {}
        self.before_orders = lambda orders: None  # of a test: called with the orders of each step
        self.hold_loads = self.hold_stores = False  # of a test: no copy ends
        self._wrap()

    def bytes_of(self, block: int) -> bytes:
        whole = hashlib.sha1()
        for layer in self.kv:
            whole.update(raw(layer[block]))
        return whole.digest()

    def _wrap(self) -> None:
        stores, worker = self.scheduler.stores, self.worker
        reserve, begin_step, has_ended, end_store = stores._reserve, worker.begin_step, worker._has_ended, worker._end_store

        def reserve_and_note(session, source, count, **more):
            known = len(stores._orders)
            reserve(session, source, count, **more)
            for order in stores._orders[known:]:
                self._names[order.store_id] = [source.chain[place] for place in order.positions]

        def begin_step_and_note(orders, **how):
            self.before_orders(orders)
            for order in orders.stores:
                self._began[order.store_id] = [self.bytes_of(block) for block in order.blocks]
                for name, content in zip(self._names[order.store_id], self._began[order.store_id]):
                    self.stored.setdefault(name, set()).add(content)
            if worker._transfer is not None and not isinstance(worker._transfer, HeldTransfer):
                worker._transfer = HeldTransfer(worker._transfer, self)
            begin_step(orders, **how)

        def end_store_and_check(store):
            end_store(store)
            now = [self.bytes_of(block) for block in store.order.blocks]
            if now != self._began[store.order.store_id]:
                self.wrong.append(f"store {store.order.store_id}: its pages changed while they were copied")

        def has_ended_and_check(load):
            if not has_ended(load):
                return False
            bad = set(self.worker._bad_blocks)
            for i, block in enumerate(load.order.blocks):
                if block in bad:
                    continue
                place = load.order.first + i
                name = load.order.hashes[32 * place : 32 * place + 32]
                self.checked += 1
                if self.bytes_of(block) not in self.stored.get(name, ()):
                    self.wrong.append(f"request {load.order.request_id}: block {place} has other bytes than were stored")
            return True

        stores._reserve, worker.begin_step = reserve_and_note, begin_step_and_note
        worker._has_ended, worker._end_store = has_ended_and_check, end_store_and_check


class Engine:
    """vLLM in this process, one at a time. blocks: of its KV pool; stored: what an engine before has stored."""

    def __init__(self, extra: dict, *, blocks: int | None = None, role: str = "kv_both", stored: dict | None = None, **options) -> None:
        settings = dict(model=MODEL, skip_tokenizer_init=True, enforce_eager=True, block_size=BLOCK, max_model_len=2048,
                        max_num_batched_tokens=512, max_num_seqs=8, disable_log_stats=True, num_gpu_blocks_override=blocks,
                        kv_transfer_config={"kv_connector": "TiercelConnector", "kv_connector_module_path": "tiercel.vllm", "kv_role": role,
                                            "kv_connector_extra_config": extra})
        if not any(name.endswith(".safetensors") for name in os.listdir(settings["model"])):  # random weights, by one name
            settings["load_format"] = "dummy"
            extra.setdefault("weights_id", "the tests' own")
        self.llm = LLM(**{**settings, **options})
        self.core = self.llm.llm_engine.engine_core.engine_core
        self.scheduler = self.core.scheduler
        self.connector = self.scheduler.connector
        self.tiercel = self.connector._scheduler
        runner = self.core.model_executor.driver_worker.worker.model_runner
        from vllm.distributed.kv_transfer import get_kv_transfer_group

        self.worker = get_kv_transfer_group()._worker
        self.kv = runner.kv_caches
        self.auditor = Auditor(self.tiercel, self.worker, self.kv)
        if stored:
            self.auditor.stored = stored
        self._number = 0

    def close(self) -> None:
        self.llm.llm_engine.engine_core.shutdown()
        self.llm = self.core = self.scheduler = self.connector = self.worker = self.kv = None
        gc.collect()

    def submit(self, prompt: list[int], new_tokens: int = 8, salt: str | None = None, **sampling) -> str:
        self._number += 1
        name = f"test-{self._number}"
        params = SamplingParams(temperature=0, max_tokens=new_tokens, detokenize=False, ignore_eos=True, **sampling)
        given = {"prompt_token_ids": prompt} | ({"cache_salt": salt} if salt else {})
        return self.llm.llm_engine.add_request(name, given, params) or name

    def step(self) -> list:
        return [output for output in self.llm.llm_engine.step() if output.finished]

    def drain(self, patience_s: float = PATIENCE_S) -> dict[str, tuple[list[int], int]]:
        """Steps until nothing is left to do: for each finished request its tokens, and how many of its prompt were cached."""
        ended, end = {}, time.monotonic() + patience_s
        while self.scheduler.has_requests() or self.core.batch_queue:
            for output in self.step():
                ended[output.request_id] = (list(output.outputs[0].token_ids), output.num_cached_tokens)
            if time.monotonic() > end:
                raise AssertionError(f"requests hang: {list(self.scheduler.requests)}")
        return ended

    def run(self, prompt: list[int], new_tokens: int = 8, **more) -> tuple[list[int], int]:
        self.submit(prompt, new_tokens, **more)
        (result,) = self.drain().values()
        return result

    def forget(self) -> None:
        """Empties the engine's own cache, and its KV: what is right afterwards, was loaded or computed."""
        self.drain()
        if not self.llm.reset_prefix_cache():
            raise AssertionError("the engine's cache is not empty: blocks are held")
        for layer in self.kv:
            layer.fill_(0)

    def free_blocks(self) -> int:
        return self.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()


def check(test, engine: Engine, loaded: int | None = None) -> None:
    """The auditor found nothing wrong, and nothing is held any more. loaded: blocks that must have been checked so far."""
    engine.drain()
    test.assertEqual(engine.auditor.wrong, [])
    if loaded is not None:
        test.assertEqual(engine.auditor.checked, loaded)
    pool = engine.scheduler.kv_cache_manager.block_pool
    test.assertEqual(engine.free_blocks(), pool.num_gpu_blocks - 1)
    test.assertEqual((engine.tiercel._tracked, engine.tiercel._loading, engine.tiercel._in_steps, engine.tiercel.stores.held_blocks),
                     ({}, {}, set(), 0))


