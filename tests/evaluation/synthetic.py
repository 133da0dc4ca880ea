"""Sample sets and a whole study made without a model: programs are drawn from known distributions."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from constellation.domains.domain import Verdict
from constellation.evaluation.controls import Controls
from constellation.evaluation.critics import Critics
from constellation.evaluation.filtering import ExactPosterior
from constellation.evaluation.null import NullPools
from constellation.evaluation.reach import KnownPrograms
from constellation.evaluation.selection import Selectors, selectors_of
from constellation.evaluation.study import (
    AnalysisConfig,
    Part,
    SetKey,
    StageSummary,
    StudyResults,
    TaskInfo,
)
from constellation.evaluation.temperature import Match, Temperatures
from constellation.runtime.keys import host_rng
from constellation.samples import SampleSet, collect


def verdict(text: str) -> Verdict:
    """What a text says of itself: "right", "false" (errs on a probe), "fits:<outputs>", "junk", or unfit."""
    if text.startswith(("right", "false")):
        return Verdict(True, 0, True, True, ("truth",), 64 if text.startswith("right") else 60)
    if text.startswith("fits:"):
        return Verdict(True, 0, True, False, (text.split(":")[1],))
    return Verdict(False) if text == "junk" else Verdict(True, 0, False, False, ("other",))


def sample_set(texts: list[list[str]], lengths: dict[str, int] | None = None) -> SampleSet:
    """A sample set whose samples are these texts (T x n); a text's verdict is `verdict(text)`."""
    lengths = lengths or {}
    answers = [[np.zeros(lengths.get(text, len(text)), np.int32) for text in row] for row in texts]
    return collect(
        [f"task{t}" for t in range(len(texts))], answers, [[True] * len(row) for row in texts], texts, {}
    ).judge(lambda t, text: verdict(text))


def random_set(seed: int, tasks: int = 5, n: int = 12) -> SampleSet:
    """Random texts with plenty of repetition, ties and tasks without survivors."""
    rng = np.random.default_rng(seed)
    kinds = [
        "right a",
        "right bb",
        "false a",
        "fits:x:1",
        "fits:x:22",
        "fits:y:1",
        "fits:z:333",
        "bad 1",
        "junk",
    ]
    rows = []
    for _ in range(tasks):
        share = rng.dirichlet(np.full(len(kinds), 0.4))
        rows.append([kinds[i] for i in rng.choice(len(kinds), size=n, p=share)])
    return sample_set(rows)


KINDS = (
    'Concat(GetToken(x, Word, 1), Const(", "), GetToken(x, Word, -1))',
    'Concat(GetToken(x, Word, 1), Const(", "), GetToken(x, Word, 2))',
    'Concat(SubStr(x, 1, 4), Const(", "), GetToken(x, Word, -1))',
    'Concat(Upper(SubStr(x, 1, 1)), Const(", "), GetToken(x, Word, -1))',
    "GetToken(x, Word, -1)",
    'Concat(GetToken(x, Alphanum, 1), Const(", "), GetToken(x, Alphanum, -1))',
    'Concat(GetToken(x, Word, 1), Const(","), SubStr(x, -5, -1))',
    "Concat(GetToken(x, Word",
)
# what each is: right, fits with outputs a or b, false (generalises but errs on a probe), unfit, no program
VERDICTS = (
    Verdict(True, 0, True, True, ("truth",), 64),
    Verdict(True, 0, True, False, ("a",)),
    Verdict(True, 1, True, False, ("b",)),
    Verdict(True, 0, False, False, ("c",)),
    Verdict(True, 0, False, False, ("d",)),
    Verdict(True, 0, True, True, ("truth",), 61),
    Verdict(True, 0, False, False, ("e",)),
    Verdict(False),
)
SHARPNESS = {"theta0": 0.8, "gen_v0": 1.0, "v1": 1.35, "v2": 1.5}
CONTROLS = {"permuted": 1.0, "own_withheld": 1.3, "secret_solved": 1.2, "secret": 1.1}
EXAMPLES = tuple(
    ((f"{first} de {last}",), f"{first}, {last}")
    for first, last in zip(
        "Ada Grace Alan Edsger Barbara Donald Tony John Frances Ken Leslie Robin".split(),
        "Lovelace Hopper Turing Dijkstra Liskov Knuth Hoare Backus Allen Thompson Lamport Milner".split(),
        strict=True,
    )
)


def study(
    tasks: int = 24,
    n: int = 32,
    split_seeds: int = 3,
    seed: int = 0,
    rounds: int = 2,
    resamples: int = 300,
    trajectories: int = 1,
    doubled: bool = False,
    controlled: int = 0,
    selectors: bool = False,
    exact: bool = False,
    tempered: bool = False,
) -> StudyResults:
    """A study of sharpening: a round raises what is already likely and loses what is not.

    Args:
        trajectories: K; each sharpens a little differently.
        selectors: with every column that selectors read, and with samples of tuning tasks.
        exact: with a posterior, as wrong as the critic but for being the same within a cluster of outputs.
        tempered: with the start and the last round at other temperatures.
        doubled: with as many fresh samples of gen_v0 again on the hard bank, for the null.
        controlled: the first trajectories that have controls, on two banks, and a critic of permuted labels.
    """
    models = ("theta0", "gen_v0", *[f"v{i + 1}" for i in range(rounds)])
    banks = {"easy": 2.6, "hard": 3.6, "withheld": 4.4}
    infos, samples, columns, doubles, controls, permuted, log_probs = {}, {}, {}, {}, {}, {}, {}
    filters, asked, heated = {}, {}, None
    for bank, depth in banks.items():
        rng = host_rng(seed, "study", bank)
        infos[bank] = [task_info(bank, t, rng) for t in range(tasks)]
        logits = rng.normal(0, 2.4, (tasks, len(KINDS)))
        logits[:, 0] -= depth * rng.random(tasks) * 1.6
        logits[:, 5] -= depth
        ids = [info.id for info in infos[bank]]
        if tempered and bank == "hard":
            heated = tempered_sets(seed, logits, (models[1], models[-1]), n, trajectories, ids)
        for model, k in product(CONTROLS if bank != "easy" else (), range(controlled)):
            key = SetKey(bank, model, 1234, k)
            controls[key] = draw_set(logits, CONTROLS[model], n, host_rng(seed, "controls", *key), ids)
            if bank == "hard":
                asked[model, k] = np.log(shares(logits, CONTROLS[model])[:, [0, 5]]).ravel()
        for model, k in product(models, range(trajectories)):
            if model == "theta0" and k > 0:
                continue
            sharpness = SHARPNESS.get(model, 1.6) + (k % 3) * (0 if model == "theta0" else 0.05)
            if doubled and (bank, model) == ("hard", "gen_v0"):
                pool = SetKey(bank, model, 1234, k)
                draw = host_rng(seed, "doubled", k)
                doubles[pool] = draw_set(logits, sharpness, n, draw, ids)
            if bank == "hard":
                log_probs[model, k] = np.log(shares(logits, sharpness)[:, [0, 5]]).ravel()
            for split_seed in range(
                1234, 1234 + (split_seeds if bank == "hard" and model == "gen_v0" else 1)
            ):
                key = SetKey(bank, model, split_seed, k)
                draw = host_rng(seed, "study", *key)
                samples[key] = draw_set(logits, sharpness, n, draw, ids)
                if model in ("gen_v0", models[-1]) and bank != "withheld":
                    noise = draw.normal(0, 1.6, len(samples[key].text))
                    score = 2.0 * samples[key].right - 1.0 + noise
                    columns[key] = {"critic": np.where(samples[key].fits, score, np.nan)}
                    if k < controlled and (bank, model, split_seed) == ("hard", "gen_v0", 1234):
                        permuted[key] = np.where(samples[key].fits, noise, np.nan)
                    if selectors:
                        columns[key] |= selector_columns(samples[key], host_rng(seed, "columns", *key))
                if exact and (model, split_seed) == ("gen_v0", 1234):
                    filters[key] = cluster_posterior(samples[key])
    pools = {f"v{i + 1}": next(iter(samples.values())) for i in range(rounds)}
    known = KnownPrograms(
        bank="hard",
        samples=n // 4,
        task=np.repeat(np.arange(tasks), 2),
        text=np.array([KINDS[0], KINDS[5]] * tasks, np.object_),
        atoms=np.array([3, 3] * tasks),
        structures=((), ("outer_constants",)) * tasks,
        secret=np.array([True, False] * tasks),
        log_prob=log_probs,
    )
    losses = tuple(1.4 * 0.93**i + 0.2 for i in range(40))
    stages = [
        StageSummary(
            "theta0", "pretraining", tasks=400_000, updates=12_000, answer_tokens=5_200_000, losses=losses
        ),
        StageSummary("gen_v0", "warm_start", tasks=4_000, updates=300, answer_tokens=80_000, losses=losses),
        *[
            StageSummary(name, "star", 2_000, 32_000, 1_140, 1_140 + k, 120, 21_000, losses, pool, k)
            for name, pool in pools.items()
            for k in range(trajectories)
        ],
        StageSummary("critic", "critic", 1_500, 24_000, 1_010, 9_400, 200, 9_400, losses),
    ]
    tuning = tuning_sets(seed, n, trajectories) if selectors else ()
    parts: dict[str, Part] = {"reach": known, "selection": Selectors("gen_v0", columns, tuning)}
    if controlled:
        parts["controls"] = Controls(controls, permuted, {"hard": replace(known, log_prob=log_probs | asked)})
    if heated:
        parts["temperature"] = heated
    if exact:
        parts["filtering"] = exact_of(seed, infos, filters)
    return StudyResults(
        base="theta0",
        start="gen_v0",
        rounds=models[2:],
        tasks=infos,
        samples=samples,
        primary_split=1234,
        trajectories=trajectories,
        parts=parts | ({"null": NullPools(doubles)} if doubled else {}),
        stages=stages,
        roles={
            "pretraining": 400_000,
            "warm_start": 4_000,
            "star": 4_000,
            "critic": 1_500,
            "evaluation": 3 * tasks,
        },
        config={
            "model": {"dir": "constellation/assets/nano", "quantization": "int4:32"},
            "sampling": {"n": n},
        },
        provenance={"base model": "3f1c9a", "jax": "0.10.2"},
        analysis=AnalysisConfig(
            small_k=min(8, n // 4), large_k=min(64, n // 2), resamples=resamples, halvings=40
        ),
    )


def known_programs(results: StudyResults) -> KnownPrograms:
    """Those of a synthetic study."""
    programs = results.parts["reach"]
    assert isinstance(programs, KnownPrograms)
    return programs


def exact_posterior(results: StudyResults) -> ExactPosterior:
    """That of a study that has one."""
    exact = results.parts["filtering"]
    assert isinstance(exact, ExactPosterior)
    return exact


def null_pools(results: StudyResults) -> NullPools:
    """Those of a study that has some."""
    pools = results.parts["null"]
    assert isinstance(pools, NullPools)
    return pools


def selector_columns(samples: SampleSet, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Every further column, each a noisy sign of what is right."""
    right, fits = samples.right, samples.fits
    noisy = {
        name: np.where(fits, weight * right + rng.normal(0, 1, len(right)), np.nan)
        for name, weight in (("log_likelihood", 0.5), ("prior_critic", 0.4))
    }
    probes = np.where(fits, samples.key, -1)
    return noisy | {"probe_cluster": probes, "posterior": cluster_posterior(samples)}


def cluster_posterior(samples: SampleSet) -> np.ndarray:
    """0.6 for the right outputs, 0.3 and 0.1 for the others that fit; NaN where a program does not."""
    table = {KINDS[0]: 0.6, KINDS[5]: 0.6, KINDS[1]: 0.3, KINDS[2]: 0.1}
    return np.array([table.get(str(text), np.nan) for text in samples.text])


def tuning_sets(
    seed: int, n: int, trajectories: int, tasks: int = 20
) -> list[tuple[SampleSet, dict[str, np.ndarray]]]:
    """A set a trajectory, with the columns of the unlearned selectors."""
    result = []
    for k in range(trajectories):
        rng = host_rng(seed, "tuning", k)
        pool = draw_set(rng.normal(0, 2.4, (tasks, len(KINDS))), 1.0, n, rng, [f"t{t}" for t in range(tasks)])
        found = selector_columns(pool, rng)
        result.append((pool, {name: found[name] for name in ("log_likelihood", "probe_cluster")}))
    return result


def tempered_sets(
    seed: int, logits: np.ndarray, models: tuple[str, str], n: int, trajectories: int, ids: list[str]
) -> Temperatures:
    """At a temperature t a model is as sharp as SHARPNESS / t; tuning tasks are like those of the bank."""

    def drawn(tasks: list[str], model: str, value: float) -> list[SampleSet]:
        rng = host_rng(seed, "tempered", tasks[0], model, str(value))
        sharpness = SHARPNESS.get(model, 1.6) / value
        return [draw_set(logits, sharpness, n, rng, tasks) for _ in range(trajectories)]

    values, matched = (0.7, 1.0, 1.4), round(1 / SHARPNESS.get(models[1], 1.6), 3)
    read = [*product(models, (0.7, 1.4)), (models[0], matched)]
    return Temperatures(
        values=values,
        own=1.0,
        samples=n,
        evaluated={at: drawn(ids, *at) for at in read},
        tuning={at: drawn([f"tuning {name}" for name in ids], *at) for at in product(models, values)},
        match=Match(matched, False),
    )


def exact_of(seed: int, infos: dict, filters: dict) -> ExactPosterior:
    """A ceiling of its own for each task."""
    ceilings = {}
    for bank, tasks in infos.items():
        sampler, secret = host_rng(seed, "ceiling", bank).random((2, len(tasks)))
        ceilings[bank] = {"sampler": sampler, "secret": secret}
    return ExactPosterior(ceilings, {"easy": 3, "hard": 4, "withheld": 4}, filters, 3, 8, 1)


def task_info(bank: str, t: int, rng: np.random.Generator) -> TaskInfo:
    structures = (
        (("cased_span", "outer_constants", "twice_from_the_end")[t % 3],) if bank == "withheld" else ()
    )
    atoms = int(rng.integers(1, 4 if bank == "easy" else 5))
    return TaskInfo(
        f"{bank}{t}", atoms, structures, bool(rng.random() < 0.7), KINDS[0], EXAMPLES[:2], EXAMPLES[2:]
    )


def shares(logits: np.ndarray, sharpness: float) -> np.ndarray:
    """[T, kinds] how probable a model finds each of the programs."""
    logits = sharpness * logits
    logits[:, 0] += 4 * (sharpness - 1) * np.sign(logits[:, 0] - logits.mean(1))  # its own right programs
    share = np.exp(logits - logits.max(1, keepdims=True))
    return share / share.sum(1, keepdims=True)


def draw_set(
    logits: np.ndarray, sharpness: float, n: int, rng: np.random.Generator, ids: list[str]
) -> SampleSet:
    texts = [[KINDS[i] for i in rng.choice(len(KINDS), size=n, p=row)] for row in shares(logits, sharpness)]
    answers = [[np.zeros(len(text) // 4, np.int32) for text in row] for row in texts]
    table = dict(zip(KINDS, VERDICTS, strict=True))
    return collect(ids, answers, [[True] * n] * len(ids), texts, {}).judge(lambda t, text: table[text])


def variants(results: StudyResults, trajectories: int, n: int, seed: int = 0) -> StudyResults:
    """The study with gen_v0 shown one and four examples, and with two more critics.

    One of these knows what is right and judges the last round's candidates, the other says of gen_v0's what
    the study's own critic does.
    """
    ids = [task.id for task in results.tasks["hard"]]
    visible = {}
    for number in (1, 4):
        logits = host_rng(seed, "visible", number).normal(0, 2.4, (len(ids), len(KINDS)))
        rngs = [host_rng(seed, "visible", number, k) for k in range(trajectories)]
        pools = [draw_set(logits, 1.0, n, rng, ids) for rng in rngs]
        scores = [rng.normal(0, 1, len(pool.text)) for rng, pool in zip(rngs, pools, strict=True)]
        visible[number] = [(pool, {"critic": own}) for pool, own in zip(pools, scores, strict=True)]
    last, start = (
        [SetKey("hard", model, 1234, k) for k in range(trajectories)] for model in ("v2", "gen_v0")
    )
    sharp = {key: results.samples[key].right.astype(np.float64) for key in last}
    same = {key: selectors_of(results).columns[key]["critic"] for key in start}
    part = Critics(visible, "gen_v0", {"sharp": sharp, "same": same})
    return replace(results, parts={**results.parts, "critics": part})
