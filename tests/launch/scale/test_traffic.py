import pytest

from rhapsode.launch.scale.choose import STEP_TOKENS, built, fastest, fewest, figures, further
from rhapsode.launch.scale.models import LLAMA_1B, LLAMA_8B, LLAMA_70B, MISTRAL_7B
from rhapsode.launch.scale.setting import Layout, Machines, Task
from rhapsode.launch.scale.traffic import BUCKET_BYTES, operations, time, tokens, traffic
from rhapsode.train.ranks import together

MACHINES = Machines()
TASK = Task(MISTRAL_7B.spec, 4096)
P = TASK.spec.parameters


def test_alone_nothing_is_sent():
    assert sum(traffic(TASK, Layout())) == 0
    assert time(TASK, Layout(), MACHINES).lost == 0


def test_shares_send_eight_bytes_a_parameter():
    sent = traffic(TASK, Layout(shards=1024))
    assert sent.weights == pytest.approx(1023 / 1024 * 2 * (2 * TASK.blocks + TASK.outside))
    assert sent.shares == pytest.approx(1023 / 1024 * 4 * P)
    assert sum(sent) < 8 * P


def test_replicas_sum_each_gradient_twice_around():
    assert sum(traffic(TASK, Layout(replicas=8))) == pytest.approx(2 * 7 / 8 * 4 * P)
    both = traffic(TASK, Layout(shards=8, replicas=4))
    assert both.sums == pytest.approx(2 * 3 / 4 * 4 * P / 8)


def test_muon_sends_its_rows_and_gets_them_back():
    sent = traffic(TASK._replace(optimizer="muon"), Layout(shards=4))
    assert sent.directions == pytest.approx(3 / 4 * 2 * 4 * TASK.blocks / 4)
    divided = traffic(TASK._replace(optimizer="muon"), Layout(shards=2, tensor=2))
    assert divided.directions == sent.directions


def test_divided_products_send_results_and_less_of_everything_else():
    divided, again = (traffic(TASK, Layout(shards=4, tensor=8, recompute=recompute)) for recompute in (False, True))
    assert divided.weights == pytest.approx(3 / 4 * 2 * (2 * TASK.blocks / 8 + TASK.outside))
    assert divided.products == pytest.approx(7 / 8 * 4 * (4 * 32 + 1) * 4096 * 4096)
    assert again.products == pytest.approx(7 / 8 * 4 * (6 * 32 + 1) * 4096 * 4096)
    assert divided.parts == pytest.approx(2 * 7 / 8 * 4 * TASK.outside / 4)
    assert traffic(TASK, Layout(shards=4)).parts == 0


def test_operations_are_those_of_the_spec_and_a_third_more_to_recompute():
    plain, again = operations(TASK, Layout()), operations(TASK, Layout(recompute=True))
    assert plain == 4096 * TASK.spec.flops_per_token(4096)
    assert again == pytest.approx(plain * 4 / 3 - 4096 * 2 * TASK.projection)


def test_a_machine_sends_inside_by_its_links_and_outside_by_all_its_cards():
    no_hops = Machines(hop=0)
    inside, outside = (time(TASK, Layout(shards=n), no_hops).hiding for n in (8, 16))
    sent = [traffic(TASK, Layout(shards=n)) for n in (8, 16)]
    assert inside == pytest.approx(sum(sent[0]) / (450e9 * 0.8))
    assert outside == pytest.approx(sum(sent[1]) / (8 * 50e9 * 0.8))
    one_card = time(TASK, Layout(shards=8, tensor=8), no_hops).hiding
    assert one_card == pytest.approx(sum(traffic(TASK, Layout(shards=8, tensor=8))[:2]) / (50e9 * 0.8))


def test_whole_models_wait_for_their_sums_and_shares_send_meanwhile():
    assert time(TASK, Layout(replicas=8), MACHINES).hiding == 0
    assert time(TASK, Layout(shards=8), MACHINES).waiting == 0


def test_buckets_are_those_of_the_ranks():
    assert together.BUCKET_BYTES == BUCKET_BYTES


@pytest.mark.parametrize("model", [LLAMA_1B, LLAMA_8B, LLAMA_70B])
@pytest.mark.parametrize("gpus", [8, 128, 1024])
def test_the_choice_fits_uses_every_gpu_and_is_the_fastest(model, gpus):
    task = Task(model.spec, 4096)
    for layouts in (list(built(gpus, MACHINES)), list(further(gpus, MACHINES))):
        assert {layout.gpus for layout in layouts} == {gpus}
        best = fastest(task, iter(layouts), MACHINES)
        fitting = [f for f in (figures(task, each, MACHINES) for each in layouts) if f.fits(MACHINES)]
        assert (best is None) == (not fitting)
        if best is not None:
            assert best.fits(MACHINES)
            assert tokens(task, best.layout) <= STEP_TOKENS
            assert all(best.tokens_per_second >= f.tokens_per_second * 0.999 for f in fitting)


def test_fewer_gpus_than_the_fewest_do_not_fit():
    task = Task(LLAMA_70B.spec, 4096)
    assert fewest(task, MACHINES, recompute=True, most=16) is None
    count = fewest(task, MACHINES, recompute=True)
    assert count is not None
    kept = fewest(task, MACHINES, recompute=False)
    assert kept is not None
    assert kept > count
    assert not figures(task, Layout(shards=1024), MACHINES).fits(MACHINES)  # it takes ranks that divide products
    assert figures(task, Layout(shards=count, recompute=True), MACHINES).fits(MACHINES)
    assert not figures(task, Layout(shards=count // 2, recompute=True), MACHINES).fits(MACHINES)
