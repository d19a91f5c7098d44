"""Random networks with padded channels compute what they computed before."""

from hypothesis import given, settings
from hypothesis import strategies as st

from dlaconv.ir.graph import drop_unread
from tests.ir.passes.harness import context, ops, run_pass
from tests.ir.passes.legal.channel_nets import PASS, Random, unaligned


def grow(seed, quantised):
    """A random network of convolutions, sums, concatenations, pools and activations."""
    net = Random(seed, quantised)
    rng = net.rng
    maps = [net.conv(net.entry, int(rng.integers(1, 20)), act="Relu")]
    if rng.integers(3) == 0:
        maps.append(net.depthwise(net.entry))
    if rng.integers(4) == 0:
        maps.append(net.pool(net.entry))
    for _ in range(int(rng.integers(2, 9))):
        x = maps[rng.integers(len(maps))]
        same = [value for value in maps if net.shapes[value] == net.shapes[x]]
        step = rng.integers(9)
        if step < 2:
            maps.append(net.conv(x, int(rng.integers(1, 36)), kernel=1))
        elif step == 2:
            maps.append(net.conv(x, net.shapes[x][0], kernel=1))  # its shape for sums
        elif step == 3:
            maps.append(net.add(x, same[rng.integers(len(same))]))
        elif step == 4 and net.shapes[x][0] < 60:
            maps.append(net.concat(x, maps[rng.integers(len(maps))]))
        else:
            kinds = [net.depthwise, net.leaky, net.pool, net.average]
            maps.append(kinds[rng.integers(len(kinds))](x))
    outputs = [maps[-1]]
    if rng.integers(2):
        outputs.append(net.fully(maps[rng.integers(len(maps))], int(rng.integers(1, 12))))
    if rng.integers(3) == 0 and maps[-2] not in outputs:
        outputs.append(maps[-2])
    model = net.model(*outputs)
    drop_unread(model.graph)
    return model


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_random_quantised_networks_keep_every_integer(seed):
    after = run_pass(PASS, grow(seed, quantised=True), tolerance=0)
    assert unaligned(after) == []


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_random_float_networks_compute_the_same(seed):
    after = run_pass(PASS, grow(seed, quantised=False))
    assert unaligned(after) == []


def test_padding_twice_is_padding_once():
    net = Random(quantised=True)
    inner = net.concat(net.conv(net.entry, 5), net.conv(net.entry, 4))
    model, noted = net.model(net.fully(net.add(inner, net.conv(inner, 9)), 3)), context()
    once = run_pass(PASS, model, noted)
    layouts, count = dict(noted.layouts), len(noted.rewrites)
    again = once.clone()
    PASS(again, noted)
    assert noted.layouts == layouts
    assert len(noted.rewrites) == count
    assert ops(again) == ops(once)
