"""Losses and gradients of every weight are those of TRL's own trainers on the same answers.

TRL's code runs as it is, on trainers made without their constructors: what it asks for besides the loss (devices,
gathering, curves) is filled in here. It reads padded rows where we read packed ones. ORPO is computed in float32 there,
whatever goes in; the paper's formula beside it is in `test_preference.py`.
"""

import types
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from tests.conftest import make_decoder, make_spec
from tests.train.objectives.conftest import Answers, assert_same, hidden_of, log_probs_of, make_answers
from tests.train.test_rollouts import NUMBERS, Length, judged, rollouts
from torch import Tensor

from rhapsode.kernels.attention import DenseAttend
from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.kernels.scores import Projection
from rhapsode.model.decoder import Decoder
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.objective import Batch
from rhapsode.train.objectives.distil import distil
from rhapsode.train.objectives.grpo import GroupPolicy
from rhapsode.train.objectives.kto import divergence_sum, kto
from rhapsode.train.objectives.neftune import noise
from rhapsode.train.objectives.policy import Clip, Per, policy_gradient
from rhapsode.train.objectives.preference import Pairs, dpo, ipo, orpo, simpo
from rhapsode.train.objectives.reward import bradley_terry
from rhapsode.train.objectives.sequences import sequence_means, sequence_sums
from rhapsode.train.objectives.teacher import Distillation

for package in ("accelerate", "datasets", "trl"):
    pytest.importorskip(package, reason=f"{package}, of the reference, is not installed")

GOOD = torch.tensor([True, False, False, True, False, True])


class Padded(NamedTuple):
    """One answer a row, after its prompt, [S,T] each: what TRL reads."""

    input_ids: Tensor
    attention_mask: Tensor
    completion_mask: Tensor

    @classmethod
    def of(cls, answers: Answers, wanted: list[int]) -> "Padded":
        rows = []
        for number in wanted:
            row, end = (answers.sequences == number).nonzero()[-1].tolist()
            whole = (answers.documents[row] == answers.documents[row, end]).nonzero().squeeze(1)
            ids = torch.cat((answers.ids[row, whole], answers.targets[row, [end]]))
            rows.append((ids, int((answers.sequences[row] == number).sum())))
        width = max(len(ids) for ids, _ in rows)
        found = torch.zeros(3, len(rows), width, dtype=torch.long)
        for index, (ids, completion) in enumerate(rows):
            found[0, index, : len(ids)], found[1, index, : len(ids)] = ids, 1
            found[2, index, len(ids) - completion : len(ids)] = 1
        return cls(*found)


def hidden_of_padded(model: Decoder, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    attend = DenseAttend(attention_mask, dtype=model.embedding.weight.dtype)
    hidden: Tensor = model(input_ids, torch.arange(input_ids.shape[1]).expand_as(input_ids), attend=attend)
    return hidden


def as_transformers(model: Decoder) -> Callable[..., Any]:
    """What TRL asks of a model with a fused head: of each token but the first, what the one before it says."""

    def forward(input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **_: Any) -> types.SimpleNamespace:
        scores = F.linear(hidden_of_padded(model, input_ids, attention_mask)[:, :-1], model.head.weight)
        every, wanted = F.log_softmax(scores, -1), labels[:, 1:]
        log_probs = every.gather(-1, wanted.clamp(min=0)[..., None]).squeeze(-1).where(wanted != IGNORE, 0)
        entropy, likeliest = -(every.exp() * every).sum(-1), scores.argmax(-1)
        return types.SimpleNamespace(
            log_probs=log_probs, entropy=entropy, mean_logits=scores.mean(-1), is_top1=likeliest == wanted
        )

    return forward


class Scores:
    """What TRL asks of a model without a fused head."""

    def __init__(self, model: Decoder) -> None:
        self._model = model

    def eval(self) -> None:
        pass

    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> types.SimpleNamespace:
        hidden = hidden_of_padded(self._model, input_ids, attention_mask)
        return types.SimpleNamespace(logits=F.linear(hidden, self._model.head.weight))


class OneProcess:
    """An accelerator that has nothing to gather."""

    device, num_processes = torch.device("cpu"), 1

    def gather(self, x: Tensor) -> Tensor:
        return x

    gather_for_metrics = gather

    def reduce(self, x: Tensor, reduction: str) -> Tensor:  # noqa: ARG002 - as TRL calls it
        return x


def bare(kind: type, **attributes: Any) -> Any:
    """A trainer that never trains."""
    made = kind.__new__(kind)
    vars(made).update(
        accelerator=OneProcess(),
        _metrics={"eval": defaultdict(list)},
        model=types.SimpleNamespace(training=False),
        aux_loss_enabled=False,
        _total_train_tokens=0,
        **attributes,
    )
    return made


def sums(model: Decoder, answers: Answers, wanted: list[int]) -> Tensor:
    return sequence_sums(log_probs_of(model, answers), answers.sequences, answers.count)[wanted]


def means(model: Decoder, answers: Answers, wanted: list[int]) -> Tensor:
    return sequence_means(log_probs_of(model, answers), answers.sequences, answers.count)[wanted]


@pytest.mark.parametrize("kind", ["sigmoid", "ipo"])
def test_preference_with_a_reference(kind: str, policy: Decoder, reference: Decoder, answers: Answers) -> None:
    from trl import DPOTrainer

    better, worse = [0, 2, 4], [1, 3, 5]
    with torch.no_grad():
        starts = {
            f"ref_{name}_logps": sums(reference, answers, w) for name, w in (("chosen", better), ("rejected", worse))
        }
    trainer = bare(
        DPOTrainer, beta=0.3, loss_types=[kind], loss_weights=[1.0], label_smoothing=0.0, precompute_ref_logps=True,
        ld_alpha=None, f_divergence_type="reverse_kl", use_weighting=False,
    )  # fmt: skip
    inputs = {**Padded.of(answers, better + worse)._asdict(), **starts}
    expected = trainer._compute_loss(as_transformers(policy), inputs, return_outputs=False)
    value = sums if kind == "sigmoid" else means
    pairs = Pairs(*(value(policy, answers, wanted) for wanted in (better, worse)))
    with torch.no_grad():
        start = Pairs(*(value(reference, answers, wanted) for wanted in (better, worse)))
    found = dpo(pairs, start, beta=0.3, label_smoothing=0.0) if kind == "sigmoid" else ipo(pairs, start, beta=0.3)
    assert_same(found.total / found.num_terms, expected, policy)
    curves = {name: values[0] for name, values in trainer._metrics["eval"].items()}
    if kind == "sigmoid":
        assert found.measures["right"] / found.num_terms == pytest.approx(curves["rewards/accuracies"])
        assert found.measures["reward_chosen"] / found.num_terms == pytest.approx(curves["rewards/chosen"])


def test_label_smoothing(policy: Decoder, reference: Decoder, answers: Answers) -> None:
    """TRL has it where pairs are sorted first, which says nothing about a single one."""
    from trl import DPOTrainer

    with torch.no_grad():
        starts = {
            "ref_chosen_logps": sums(reference, answers, [0]),
            "ref_rejected_logps": sums(reference, answers, [1]),
        }
    trainer = bare(
        DPOTrainer, beta=0.3, loss_types=["aot_unpaired"], loss_weights=[1.0], label_smoothing=0.2,
        precompute_ref_logps=True, ld_alpha=None, f_divergence_type="reverse_kl", use_weighting=False,
    )  # fmt: skip
    inputs = {**Padded.of(answers, [0, 1])._asdict(), **starts}
    expected = trainer._compute_loss(as_transformers(policy), inputs, return_outputs=False)
    pairs = Pairs(sums(policy, answers, [0]), sums(policy, answers, [1]))
    assert_same(dpo(pairs, Pairs(*starts.values()), beta=0.3, label_smoothing=0.2).total, expected, policy)


def test_feedback(policy: Decoder, reference: Decoder, answers: Answers) -> None:
    from trl import KTOTrainer

    others, everything = make_answers([[(3, 4), (2, 5), (1, 3)]], seed=7), list(range(6))
    with torch.no_grad():
        start, start_others = sums(reference, answers, everything), sums(reference, others, [0, 1, 2])
        start_others -= 2.5  # above nothing, or the divergence would be 0 in both
        spread = divergence_sum(sums(policy, others, [0, 1, 2]), start_others)
    trainer = bare(
        KTOTrainer, beta=0.2, loss_type="kto", desirable_weight=1.0, undesirable_weight=1.33, calculate_KL=True,
        precompute_ref_logps=True,
    )  # fmt: skip
    inputs = {
        **Padded.of(answers, everything)._asdict(),
        **{f"KL_{name}": value for name, value in Padded.of(others, [0, 1, 2])._asdict().items()},
        "label": GOOD, "ref_logps": start, "ref_KL_logps": start_others,
    }  # fmt: skip
    expected = trainer._compute_loss(as_transformers(policy), inputs, return_outputs=False)
    divergence = max(0.0, float(spread.total) / spread.num_terms)
    assert divergence == pytest.approx(trainer._metrics["eval"]["kl"][0])
    found = kto(
        sums(policy, answers, everything),
        start,
        GOOD,
        divergence=divergence,
        beta=0.2,
        good_weight=1.0,
        bad_weight=1.33,
    )
    assert divergence > 0
    assert_same(found.total / found.num_terms, expected, policy)


def test_preference_without_a_reference(policy: Decoder, answers: Answers) -> None:
    from trl.experimental.cpo import CPOTrainer

    pairs = Pairs(means(policy, answers, [0, 2, 4]), means(policy, answers, [1, 3, 5]))
    for smoothing in (0.0, 0.1):
        trainer = bare(CPOTrainer, beta=2.0, simpo_gamma=1.2, loss_type="simpo", label_smoothing=smoothing, alpha=0.0)
        expected = trainer.cpo_loss(*(means(policy, answers, wanted) for wanted in ([0, 2, 4], [1, 3, 5])))[0].sum()
        assert_same(simpo(pairs, beta=2.0, margin=1.2, label_smoothing=smoothing).total, expected, policy)
        pairs = Pairs(means(policy, answers, [0, 2, 4]), means(policy, answers, [1, 3, 5]))


def test_odds_ratio(policy: Decoder, answers: Answers) -> None:
    from trl.experimental.orpo import ORPOTrainer

    better, worse = means(policy, answers, [0, 2, 4]), means(policy, answers, [1, 3, 5])
    odds = bare(ORPOTrainer, beta=0.4).odds_ratio_loss(better, worse)[0]
    expected = (-better - odds).sum()
    found = orpo(Pairs(better, worse), weight=0.4).total
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    parameters = list(policy.parameters())
    grads = [torch.autograd.grad(x, parameters, retain_graph=True) for x in (found, expected)]
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("centre", [None, 0.01])
@pytest.mark.parametrize("has_margin", [True, False])
def test_reward(centre: float | None, has_margin: bool, policy: Decoder, answers: Answers) -> None:
    from trl import RewardTrainer

    score = torch.randn(policy.spec.width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def reward_model(input_ids: Tensor, attention_mask: Tensor, **_: Any) -> types.SimpleNamespace:
        last = attention_mask.sum(1) - 1
        hidden = hidden_of_padded(policy, input_ids, attention_mask)
        return types.SimpleNamespace(logits=(hidden[torch.arange(len(last)), last] @ score)[:, None])

    rows = Padded.of(answers, [0, 2, 4, 1, 3, 5])
    inputs: dict[str, Any] = {"input_ids": rows.input_ids, "attention_mask": rows.attention_mask}
    margins = torch.tensor([0.1, 1.0, 0.0], dtype=torch.float64) if has_margin else None
    trainer = bare(RewardTrainer, args=types.SimpleNamespace(center_rewards_coefficient=centre))
    expected = trainer.compute_loss(reward_model, {**inputs, **({"margin": margins} if has_margin else {})})
    found = bradley_terry(
        Pairs(*reward_model(**inputs).logits.squeeze(1).chunk(2)), margin_P=margins, centre=centre or 0
    )
    assert_same(found.total / found.num_terms, expected, policy)


@pytest.mark.parametrize(("kind", "per"), [("grpo", "answer"), ("dr_grpo", 20), ("dapo", "token"), ("bnpo", "token")])
@pytest.mark.parametrize("cost", [0.0, 0.04])
def test_policy(kind: str, per: Per, cost: float, policy: Decoder, reference: Decoder, answers: Answers) -> None:
    from trl import GRPOTrainer

    everything = list(range(answers.count))
    rows = Padded.of(answers, everything)
    mask = rows.completion_mask[:, 1:]

    def log_probs(model: Decoder) -> Tensor:
        labels = rows.input_ids.masked_fill(rows.completion_mask == 0, IGNORE)
        found: Tensor = as_transformers(model)(rows.input_ids, rows.attention_mask, labels).log_probs
        return found

    advantages = torch.tensor([1.0, -0.5, 0.3, -2.0, 0.0, 0.7], dtype=torch.float64)
    with torch.no_grad():
        noise_of = torch.randn(mask.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        sampled, start = (log_probs(policy) + 0.3 * noise_of) * mask, log_probs(reference)
    trainer = bare(
        GRPOTrainer, beta=cost, loss_type=kind, epsilon_low=0.2, epsilon_high=0.28, max_completion_length=20,
        importance_sampling_level="token", top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False,
        _entropy_bonus_enabled=False, args=types.SimpleNamespace(delta=None, use_bias_correction_kl=False),
        _get_per_token_logps_and_entropies=lambda *_, **__: (log_probs(policy), torch.zeros(mask.shape), None),
    )  # fmt: skip
    inputs = {
        "prompt_ids": rows.input_ids[:, :1], "prompt_mask": rows.attention_mask[:, :1],
        "completion_ids": rows.input_ids[:, 1:], "completion_mask": mask, "advantages": advantages,
        "old_per_token_logps": sampled, "ref_per_token_logps": start, "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    expected = trainer._compute_loss(policy, inputs)
    kept = answers.sequences >= 0
    packed = [torch.zeros(answers.ids.shape, dtype=torch.float64) for _ in range(2)]
    order = torch.cat([(answers.sequences[kept] == i).nonzero().squeeze(1) for i in everything])
    places = kept.nonzero()[order]  # the answers' tokens in the order of the padded rows
    for target, source in zip(packed, (sampled, start), strict=True):
        target[places[:, 0], places[:, 1]] = source[mask.bool()]
    found = policy_gradient(
        log_probs_of(policy, answers), advantages, answers.sequences, sampled_N=packed[0],
        reference_N=packed[1] if cost else None, clip=Clip(0.2, 0.28), divergence_cost=cost, per=per,
    )  # fmt: skip
    assert_same(found.total / found.num_terms, expected, policy)
    curves = {name: values[0] for name, values in trainer._metrics["eval"].items()}
    tokens = found.measures["tokens"]
    assert float(found.measures["clipped"] / tokens) == pytest.approx(curves["clip_ratio/region_mean"])
    if cost:
        assert float(found.measures["divergence"] / tokens) == pytest.approx(curves["kl"])


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_distillation(beta: float, temperature: float, policy: Decoder, answers: Answers) -> None:
    from trl.experimental.gkd import GKDTrainer

    teacher = make_decoder(make_spec(width=40, ffn=64), seed=5, dtype=torch.float64)
    with torch.no_grad():
        of_teacher = Projection(hidden_of(teacher, answers), teacher.head.weight)
    expected = GKDTrainer.generalized_jsd_loss(
        F.linear(hidden_of(policy, answers), policy.head.weight), F.linear(of_teacher.hidden, of_teacher.weight),
        labels=answers.targets, beta=beta, temperature=temperature, reduction="sum",
    )  # fmt: skip
    student = Projection(hidden_of(policy, answers), policy.head.weight)
    found = distil(student, of_teacher, answers.targets, beta=beta, temperature=temperature, next_token=0.0)
    assert_same(found.total, expected, policy)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_a_step_of_distillation(beta: float, policy: Decoder, answers: Answers) -> None:
    """The mean over a whole step of two micro-batches; TRL's trainer reads the same answers in padded rows."""
    from trl.experimental.gkd import GKDTrainer

    teacher = make_decoder(make_spec(width=40, ffn=64), seed=5, dtype=torch.float64)
    rows = Padded.of(answers, list(range(answers.count)))

    trainer = bare(GKDTrainer, beta=beta, teacher_model=Scores(teacher))
    labels = rows.input_ids.masked_fill(rows.completion_mask == 0, IGNORE)
    inputs = {"input_ids": rows.input_ids, "attention_mask": rows.attention_mask, "labels": labels}
    expected = trainer.compute_loss(Scores(policy), inputs)
    batch = Batch(*answers[:4], torch.zeros_like(answers.ids))
    objective = Distillation({"beta": beta, "temperature": 1.0, "next_token": 0.0}, teacher=teacher)
    losses = [objective(policy, part) for part in batch.split(2)]
    assert_same(sum(loss.total for loss in losses) / sum(loss.num_terms for loss in losses), expected, policy)


def test_noise_on_embeddings() -> None:
    """Transformers draws from torch's own generator; from the same seed both draw the same."""
    from transformers.integrations.neftune import neftune_post_forward_hook

    module = types.SimpleNamespace(training=True, neftune_noise_alpha=5.0)
    with torch.random.fork_rng():
        torch.manual_seed(11)
        expected = neftune_post_forward_hook(module, None, torch.zeros(3, 20, 8))
    lengths, generator = torch.full((3, 20), 20), torch.Generator().manual_seed(11)
    found = noise(lengths, 8, alpha=5.0, generators=[generator] * 3)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "per"), [("grpo", "answer"), ("dr_grpo", "limit"), ("dapo", "token")])
def test_a_whole_step_of_sampled_answers(kind: str, per: str, tokenizer: Tokenizer) -> None:
    """Sampled by our engine, laid out as trees without the group that says nothing, and learned from row by row."""
    from trl import GRPOTrainer

    model = make_decoder(make_spec(vocab_size=tokenizer.vocab_size), seed=3, dtype=torch.float64)
    place = next(p for p in range(9) if 2 in rollouts(model, tokenizer).rows_of(p))
    numbers = {**NUMBERS, "temperature": 0.8, "per": per}
    batch = judged(model, tokenizer, keeps_all=False, per=per)(place)
    losses = [GroupPolicy(numbers, reference=None)(model, row) for row in batch.split(1)]
    assert len(losses) > 1
    found = sum(loss.total for loss in losses) / sum(loss.num_terms for loss in losses)

    groups = rollouts(model, tokenizer).sample(place)
    rewards = torch.tensor([[Length()(a.text, g.item) for a in g.answers] for g in groups], dtype=torch.float64)
    advantages = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
    sequences = [(g.prompt, a.ids) for g in groups for a in g.answers]
    ids = torch.zeros(3, len(sequences), max(len(p) + len(a) for p, a in sequences), dtype=torch.long)
    for row, (prompt, answer) in enumerate(sequences):
        whole = len(prompt) + len(answer)
        ids[0, row, :whole], ids[1, row, :whole] = torch.tensor([*prompt, *answer]), 1
        ids[2, row, len(prompt) : whole] = 1
    rows = Padded(*ids)
    mask = rows.completion_mask[:, 1:]
    hidden = hidden_of_padded(model, rows.input_ids, rows.attention_mask)[:, :-1]
    every = F.log_softmax(F.linear(hidden, model.head.weight) / 0.8, -1)
    log_probs = every.gather(-1, rows.input_ids[:, 1:, None]).squeeze(-1)
    trainer = bare(
        GRPOTrainer, beta=0.0, loss_type=kind, epsilon_low=0.2, epsilon_high=0.28, max_completion_length=6,
        importance_sampling_level="token", top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False,
        _entropy_bonus_enabled=False, args=types.SimpleNamespace(delta=None, use_bias_correction_kl=False),
        _get_per_token_logps_and_entropies=lambda *_, **__: (log_probs, torch.zeros(mask.shape), None),
    )  # fmt: skip
    inputs = {
        "prompt_ids": rows.input_ids[:, :1], "prompt_mask": rows.attention_mask[:, :1],
        "completion_ids": rows.input_ids[:, 1:], "completion_mask": mask, "advantages": advantages.flatten(),
        "old_per_token_logps": None, "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    assert isinstance(found, Tensor)
    assert_same(found, trainer._compute_loss(model, inputs), model)
