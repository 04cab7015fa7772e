"""The cost of the same work with other libraries: plain Keras, TF-Ranking, TorchJD, LightGBM and CatBoost.

    pip install "tfmtl2r[trees,peers]" torch "torchjd[quadprog-projector,cagrad,nash-mtl]"
    python recipes/bench_peers.py --page docs/benchmarks.md

Every library works in a process of its own, which imports nothing of the others; what is not installed is left out. The
processes take turns in a random order, a few steps each. Times are CPU times, which other load on the machine changes
little. A ratio is the median over rounds of the ratio within a round. ``--page`` replaces the section of the page
between two comments, and the picture beside it. A run that was stopped goes on where ``--rows`` ends.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LISTS, ITEMS, FEATURES = 8, 60, 136
TRUNK, HEAD = (512, 256, 128), 64
METHODS = {"mgda": "MGDA", "upgrad": "UPGrad", "cagrad": "CAGrad", "nash_mtl": "NashMTL", "pcgrad": "PCGrad"}
PLAIN = "sum of losses"
PEERS = {"Keras": "keras", "TF-Ranking": "tensorflow_ranking", "tfmtl2r": "tfmtl2r", "TorchJD": "torchjd",
         "LightGBM": "lightgbm", "CatBoost": "catboost"}
TURNS = 3  # steps per turn
ABOUT = """\
`recipes/bench_peers.py` on {date}, {cores} CPU cores ({machine}). The load of the machine was {load:.1f} before the
run: CPU times are shown, and small differences mean nothing. Each library runs in its own process, and all take
turns. A step has 8 lists of 30 to 60 items with 136 features, a trunk of 512-256-128 and a head of 64 for each
task, the softmax loss and Adam. A ratio is the median over rounds, with its quartiles. The plain step in TorchJD's
rows is PyTorch's. A request is one list; an evaluation scores 128 lists; tfmtl2r checks its export. Trees are 20
for each task. Counted in multiplications, exact gradients take {products} plain steps;
tfmtl2r leaves the padded quarter of the items out of them."""
BEGIN, END = "<!-- bench_peers: begin -->", "<!-- bench_peers: end -->"


def batch(tasks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features ``[8, 60, 136]``, labels ``[T, 8, 60]`` from 0 to 4, and which items are real."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(ITEMS // 2, ITEMS + 1, LISTS)
    x = rng.normal(size=(LISTS, ITEMS, FEATURES)).astype(np.float32)
    return x, rng.integers(0, 5, (tasks, LISTS, ITEMS)).astype(np.float32), np.arange(ITEMS) < sizes[:, None]


Works = dict[str, Callable[[], Any]]
"""What a library can do: name of the work -> a function that does it once."""


def keras(tasks: int, folder: str, loss: Any = None) -> Works:
    """A model with a head for each task, losses with ``loss_weights``, and Keras' own step."""
    import keras
    import tensorflow as tf

    x, y, valid = batch(tasks)
    inputs = hidden = keras.Input((ITEMS, FEATURES))
    for units in TRUNK:
        hidden = keras.layers.Dense(units, "relu")(hidden)
    names = [f"task_{t}" for t in range(tasks)]
    heads = {name: keras.layers.Dense(1, name=name)(keras.layers.Dense(HEAD, "relu")(hidden)) for name in names}
    model = keras.Model(inputs, heads)
    model.compile("adam", loss=dict.fromkeys(names, loss or softmax(tf)), loss_weights=dict.fromkeys(names, 1.0))
    labels = {name: tf.constant(np.where(valid, row, -1.0)[..., None]) for name, row in zip(names, y, strict=True)}
    given = tf.constant(x), labels
    step = tf.function(model.train_step, autograph=False).get_concrete_function(given)
    score = tf.function(model, autograph=False).get_concrete_function(given[0][:1])
    return {PLAIN: lambda: next(iter(step(given).values())).numpy(), "request": lambda: score(given[0][:1]),
            "evaluation": lambda: model.predict(np.repeat(x, 16, axis=0), batch_size=LISTS, verbose=0),
            "export": lambda: model.export(tempfile.mkdtemp(dir=folder), verbose=False)}


def softmax(tf: Any) -> Callable[[Any, Any], Any]:
    """The loss of all neural libraries here: the cross-entropy of softmax scores, with normalised labels."""
    def loss(labels: Any, scores: Any) -> Any:
        known = labels >= 0
        labels = tf.where(known, tf.cast(labels, scores.dtype), 0.0)[..., 0]
        logs = tf.nn.log_softmax(tf.where(known, scores, -1e9)[..., 0])
        return -tf.reduce_sum(tf.math.divide_no_nan(labels, tf.reduce_sum(labels, 1, keepdims=True)) * logs, 1)
    return loss


def tensorflow_ranking(tasks: int, folder: str) -> Works:
    """The same model, with TF-Ranking's loss."""
    from tfmtl2r.losses import get

    found = get("softmax")  # TF-Ranking's implementation, through the bridge to Keras 3
    import tensorflow as tf

    def loss(labels: Any, scores: Any) -> Any:
        known = labels[..., 0] >= 0
        return found.per_list(tf.maximum(labels[..., 0], 0), scores[..., 0], known)[0]

    works = keras(tasks, folder, loss)
    return {PLAIN: works[PLAIN], "request": works["request"]}


def tfmtl2r(tasks: int, folder: str) -> Works:
    """Exact gradients, and gradients at the cut, of every method."""
    import tfmtl2r
    from tfmtl2r.report.benchmark import compiled_step

    works: Works = {PLAIN: compiled_step(tasks, "linear_scalarization", "losses")}
    for method in chosen():
        works[f"{method}, exact"] = compiled_step(tasks, method, "parameters")
        works[f"{method}, cut"] = compiled_step(tasks, method, "features")
    x, _, valid = batch(tasks)
    model = tfmtl2r.MultiTaskRanker({"name": "shared_bottom", "units": [*TRUNK], "head_units": [HEAD]},
                                    [tfmtl2r.Task(f"task_{t}", loss="softmax") for t in range(tasks)],
                                    tfmtl2r.Schema([tfmtl2r.Dense("x", (FEATURES,))]))
    model.compile("adam")
    model.prepare({"x": x, "list_size": valid.sum(1).astype(np.int32)})
    version = tfmtl2r.export(model, f"{folder}/ranker")
    served = tfmtl2r.load(version)["serving_default"]
    request = {name: value for name, value in {"x": x[:1], "list_size": valid[:1].sum(1).astype(np.int32)}.items()
               if name in served.inputs}
    many = {"x": np.repeat(x, 16, axis=0), "list_size": np.repeat(valid.sum(1), 16).astype(np.int32)}
    return {**works, "request": lambda: served(**request),
            "evaluation": lambda: model.predict(many, batch_size=LISTS, verbose=0),
            "export": lambda: tfmtl2r.export(model, f"{folder}/ranker")}


def torchjd(tasks: int, folder: str) -> Works:
    """PyTorch with a plain step, and with TorchJD's aggregators of the Jacobian."""
    import torch
    from torchjd import aggregation, autojac

    x, y, valid = (torch.tensor(part) for part in batch(tasks))
    trunk = torch.nn.Sequential(*(layer for pair in zip((FEATURES, *TRUNK), TRUNK, strict=False)
                                  for layer in (torch.nn.Linear(*pair), torch.nn.ReLU())))
    heads = torch.nn.ModuleList(torch.nn.Sequential(torch.nn.Linear(TRUNK[-1], HEAD), torch.nn.ReLU(),
                                                    torch.nn.Linear(HEAD, 1)) for _ in range(tasks))
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()])
    shares = torch.where(valid, y, 0.0)
    shares = shares / shares.sum(-1, keepdim=True).clamp(min=1e-9)

    def losses() -> tuple[Any, list[Any]]:
        cut = trunk(x)
        scores = [head(cut)[..., 0].masked_fill(~valid, -1e9) for head in heads]
        return cut, [-(share * torch.log_softmax(score, -1)).sum(-1).mean()
                     for share, score in zip(shares, scores, strict=True)]

    def step(aggregator: Any = None) -> float:
        optimizer.zero_grad()
        cut, found = losses()
        if aggregator is None:
            sum(found).backward()
        else:
            autojac.mtl_backward(found, cut)
            autojac.jac_to_grad([*trunk.parameters()], aggregator)
        optimizer.step()
        return float(found[0])

    def score() -> Any:
        with torch.no_grad():
            cut = trunk(x[:1])
            return [head(cut) for head in heads]

    given: dict[str, dict[str, Any]] = {"CAGrad": {"c": 0.4}, "NashMTL": {"n_tasks": tasks}}
    works: Works = {PLAIN: step, "request": score}
    for name, kind in ((name, METHODS[name]) for name in chosen()):
        with contextlib.suppress(ImportError):  # its solver is not installed
            works[f"{name}, exact"] = functools.partial(step, getattr(aggregation, kind)(**given.get(kind, {})))
    return works


def lightgbm(tasks: int, folder: str) -> Works:
    """LightGBM's rankers."""
    import lightgbm

    options = {"objective": "lambdarank", "verbose": -1, "num_threads": int(os.environ["OMP_NUM_THREADS"])}
    return trees(tasks, lambda x, y, sizes: lightgbm.train(options, lightgbm.Dataset(x, y, group=sizes), 20))


def catboost(tasks: int, folder: str) -> Works:
    """CatBoost's rankers."""
    import catboost

    options = {"loss_function": "YetiRank", "iterations": 20, "verbose": False, "allow_writing_files": False,
               "thread_count": int(os.environ["OMP_NUM_THREADS"])}
    return trees(tasks, lambda x, y, sizes: catboost.CatBoost(options).fit(
        catboost.Pool(x, y, group_id=np.repeat(np.arange(LISTS), sizes))))


def trees(tasks: int, fit: Callable[..., Any]) -> Works:
    """A ranker of 20 trees for each task, and their scores of one list."""
    x, y, valid = batch(tasks)
    models: list[Any] = []

    def train() -> None:
        models[:] = [fit(x[valid], row[valid], valid.sum(1)) for row in y]

    train()
    return {"20 trees": train, "request": lambda: [model.predict(x[0]) for model in models]}


def chosen() -> list[str]:
    """The methods of this run, which a process finds among its arguments."""
    return sys.argv[sys.argv.index("--methods") + 1 :] if "--methods" in sys.argv else [*METHODS]


def work(peer: str, tasks: int, threads: int) -> None:
    """The process of a library: does the work whose name it reads, and answers with milliseconds."""
    if peer in ("torchjd", "lightgbm", "catboost"):  # these read the number of threads from the environment
        importlib.import_module(peer)
    else:
        threading = importlib.import_module("tensorflow").config.threading
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(threads)
        importlib.import_module("keras")
    with tempfile.TemporaryDirectory() as folder:
        imported, works = time.process_time(), globals()[peer](tasks, folder)
        next(iter(works.values()))()
        print(json.dumps([[*works], imported, time.process_time() - imported]), flush=True)
        for line in sys.stdin:
            name, count = json.loads(line)
            start = time.process_time()
            for _ in range(count):
                result = works[name]()
            np.asarray(result if name == PLAIN or ", " in name else 0)  # a step has ended when its loss is known
            print(json.dumps((time.process_time() - start) / count * 1e3), flush=True)
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024), flush=True)  # KiB on Linux


class Process:
    """A library's own process."""

    def __init__(self, peer: str, tasks: int, threads: int, methods: Sequence[str]):
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", peer, str(tasks), str(threads), "--methods", *methods],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)

    def begun(self) -> tuple[list[str], float, float]:
        """What the library can do, and the CPU seconds of its import and of the rest until it was ready."""
        return tuple(self._answer())

    def run(self, name: str, count: int) -> float:
        """Milliseconds of a work."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps([name, count]) + "\n")
        self.process.stdin.flush()
        found: float = self._answer()
        return found

    def end(self) -> float:
        """Ends the process, and returns its peak memory in MiB."""
        assert self.process.stdin
        self.process.stdin.close()
        found: float = self._answer()
        self.process.wait()
        return found

    def _answer(self) -> Any:
        assert self.process.stdout
        for line in self.process.stdout:
            if line[0] in "[0123456789":
                return json.loads(line)
        raise RuntimeError(f"a process has ended: run it alone to see why: {' '.join(map(str, self.process.args))}")


def measure(tasks: int, threads: int, rounds: int, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a table for one number of tasks and threads."""
    there = [peer for peer, package in PEERS.items() if importlib.util.find_spec(package)]
    processes = {peer: Process(PEERS[peer], tasks, threads, methods) for peer in there}
    begun = {peer: process.begun() for peer, process in processes.items()}
    pairs = [(peer, name) for peer, (works, *_) in begun.items() for name in works]
    times: dict[tuple[str, str], list[float]] = {pair: [] for pair in pairs}
    rng = np.random.default_rng(0)
    for round_ in range(rounds + 1):
        for place in rng.permutation(len(pairs)):
            peer, name = pairs[place]
            slow = name in ("export", "20 trees", "evaluation")
            if slow and round_ > 2:
                continue
            spent = processes[peer].run(name, 1 if slow else TURNS)
            if round_:  # the first round warms up
                times[pairs[place]].append(spent)
    memory = {peer: process.end() for peer, process in processes.items()}
    return [{"tasks": tasks, "threads": threads, "peer": peer, "work": name, **against(times, peer, name),
             "start": begun[peer][1:], "memory": memory[peer]} for peer, name in pairs]


def against(times: Mapping[tuple[str, str], list[float]], peer: str, name: str) -> dict[str, Any]:
    """The median of a work, and its ratio to the plain step of the same library and of Keras, with quartiles."""
    mine, found = np.array(times[peer, name]), {"ms": float(np.median(times[peer, name]))}
    for key, other in (("own", (peer, PLAIN)), ("keras", ("Keras", PLAIN))):
        if other in times and (name == PLAIN or ", " in name):
            found[key] = np.percentile(mine / np.array(times[other]), [25, 50, 75]).tolist()
    return found


def section(rows: Sequence[Mapping[str, Any]], load: float) -> str:
    """The section of the page."""
    about = ABOUT.format(date=datetime.datetime.now(datetime.UTC).date(), cores=os.cpu_count(),
                         machine=platform.machine(), load=load,
                         products=" and ".join(f"{products(tasks):.1f} ({tasks} tasks)" for tasks in
                                                dict.fromkeys(row["tasks"] for row in rows)))
    lines = [BEGIN, "## Other libraries", "", about, "", "![CPU time of steps](images/bench_peers.png)", ""]
    for tasks, threads in dict.fromkeys((row["tasks"], row["threads"]) for row in rows):
        mine = [row for row in rows if (row["tasks"], row["threads"]) == (tasks, threads)]
        lines += [f"**{tasks} tasks, {threads} thread{'s' * (threads > 1)}**", "",
                  "| library | work | CPU ms | / its plain step | / Keras' plain step |",
                  "| --- | --- | --- | --- | --- |"]
        lines += [f"| {row['peer']} | {row['work']} | {row['ms']:.1f} | {spread(row.get('own'))} | "
                  f"{spread(row.get('keras'))} |" for row in mine]
        begun = ["{} {:.0f} + {:.0f} s, {:.0f} MiB".format(row["peer"], *row["start"], row["memory"]) for row in mine
                 if row["work"] == "request"]
        lines += ["", f"CPU time of the import + of the rest until ready, and peak memory: {'; '.join(begun)}. In the",
                  "rest tfmtl2r traces a step of every row and makes an export, and the others make one step.", ""]
    left_out = [peer for peer in PEERS if peer not in {row["peer"] for row in rows}]
    exact = {peer: {row["work"] for row in rows if row["peer"] == peer and ", exact" in row["work"]} for peer in PEERS}
    left_out += [f"what TorchJD's {work.split(',')[0]} needs" for work in sorted(exact["tfmtl2r"] - exact["TorchJD"])]
    return "\n".join([*lines, f"Not installed: {', '.join(left_out) or 'nothing'}.", "", END])


def products(tasks: int) -> float:
    """The multiplications of a step with each task's gradient of the trunk, as multiples of those of a plain step."""
    sizes = [first * second for first, second in zip((FEATURES, *TRUNK), TRUNK, strict=False)]
    forward, heads = sum(sizes), 3 * tasks * HEAD * (TRUNK[-1] + 1)
    back = 2 * forward - sizes[0]  # the inputs need no gradient
    return (forward + tasks * back + heads) / (forward + back + heads)


def spread(values: Sequence[float] | None) -> str:
    """A median with its quartiles."""
    return "" if values is None else f"{values[1]:.2f} ({values[0]:.2f} to {values[2]:.2f})"


def picture(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Steps of all methods as multiples of Keras' plain step."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = [*dict.fromkeys((row["tasks"], row["threads"]) for row in rows)]
    ratios = {(row["tasks"], row["threads"], row["peer"], row["work"]): row.get("keras") for row in rows}
    measured = [name for name in METHODS if any(key[3] == f"{name}, exact" for key in ratios)]
    FigureCanvasAgg(figure := Figure(figsize=(9.2, 0.8 + 3.4 * -(-len(groups) // 2)), layout="constrained"))
    places = figure.subplots(-(-len(groups) // 2), min(2, len(groups)), squeeze=False).ravel()
    for axes, (tasks, threads) in zip(places, groups, strict=False):
        for offset, (peer, how) in enumerate((("tfmtl2r", "cut"), ("tfmtl2r", "exact"), ("TorchJD", "exact"))):
            there = [(place + 0.27 * offset, found) for place, method in enumerate(measured)
                     if (found := ratios.get((tasks, threads, peer, f"{method}, {how}")))]
            for place, (low, middle, high) in there:
                axes.barh(place, middle, 0.25, xerr=[[middle - low], [high - middle]], color=f"C{offset}",
                          label=f"{peer}, {how}" if place == there[0][0] else None)
        axes.set(title=f"{tasks} tasks, {threads} thread{'s' * (threads > 1)}", yticks=np.arange(len(measured)) + 0.27,
                 yticklabels=measured, xlabel="CPU time of a step / plain step of Keras")
        axes.axvline(1.0, color="0.6", linewidth=0.8, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in places[len(groups):]:
        axes.remove()
    figure.suptitle("Gradients at the cut cost about a plain step of Keras, exact ones a product for each task")
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, ncols=3, loc="outside lower center")
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measures, prints the section, and writes it into a page if asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--tasks", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=[*METHODS])
    parser.add_argument("--rows", type=Path, help="a file that keeps the rows of a run")
    parser.add_argument("--page", type=Path, help="a page with the section, or that gets it at its end")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work[0], *map(int, options.work[1:]))
        return
    load = os.getloadavg()[0]
    rows = json.loads(options.rows.read_text(encoding="utf-8")) if options.rows and options.rows.is_file() else []
    known = {(row["tasks"], row["threads"]) for row in rows}
    for wanted in ((tasks, threads) for threads in options.threads for tasks in options.tasks):
        rows += [] if wanted in known else measure(*wanted, options.rounds, options.methods)
        if options.rows:
            options.rows.write_text(json.dumps(rows), encoding="utf-8")
    text = section(rows, load)
    print(text)
    if options.page:
        start, _, rest = options.page.read_text(encoding="utf-8").partition(BEGIN)
        options.page.write_text(f"{start.rstrip()}\n\n{text}{rest.partition(END)[2] or chr(10)}", encoding="utf-8")
        picture(rows, options.page.parent / "images/bench_peers.png")


if __name__ == "__main__":
    main()
