"""Tables in place of training: how they write architectures, what they answer, and what they refuse."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from random import Random

import pytest

from nasformer.errors import RequestError
from nasformer.models.build import outline
from nasformer.models.image_cell import ImageSettings
from nasformer.spaces.cell import Edge, Skip
from nasformer.spaces.known_cells import cell, darts_v1, nasbench201, nasbench201_two_inputs, nasbench_macro
from nasformer.spaces.nas_bench import (
    NASBENCH201_NAMES,
    nasbench201_architecture,
    nasbench201_text,
    nasbench_macro_architecture,
    nasbench_macro_text,
)
from nasformer.tasks.nas_table import NasTable

DATA = Path(os.environ.get("NASFORMER_DATA", "none")) / "nas-tables"
published = pytest.mark.skipif(not DATA.is_dir(), reason="NASFORMER_DATA names no folder with the published tables")

ONE = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
TWO = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
THREE = "|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"
HEADER = "arch,cellstr,cifar10_test,cifar10_val,cifar100_test,cifar100_val,imagenet_test,imagenet_val"
SHORT = f"{HEADER}\n0,{ONE},69.55,63.364,31.26,31.84,17.0,18.5\n1,{TWO},88.22,82.8,58.26,57.8,33.8,35.4\n"
SHORT += f"2,{THREE},88.22,10,1,1,0.8,0.9\n"
LONG = "CIFAR10TestAccuracy200Epochs,CIFAR100TestAccuracy200Epochs,ImageNetTestAccuracy200Epochs,ArchitectureString"
LONG += f",UniqueString\n85.86333333333334,52.91,26.63,{ONE},(0)@x+0\n93.66000000000001,70.29,44.03,{TWO},#\n"
MACRO = "arch,test_acc_1,test_acc_2,test_acc_3,mean_acc,std,params,flops\n"
MACRO += "00000000,45.32,45.33,45.44,45.3633,0.0544,387882,7713280\n00000001,64.34,64.21,64.12,64.2233,0.09,791594,1\n"


@pytest.fixture
def short(tmp_path: Path) -> NasTable:
    """Three cells of the 12-epoch table."""
    path = tmp_path / "accuracies.csv.gz"
    path.write_bytes(gzip.compress(SHORT.encode()))
    return NasTable.read_file(path)


def test_cells_are_written_as_the_table_writes_them() -> None:
    random = Random(1)
    for space, architecture, text in (
        (nasbench201(), nasbench201_architecture, nasbench201_text),
        (nasbench_macro(), nasbench_macro_architecture, nasbench_macro_text),
    ):
        found = set()
        for _ in range(40):
            member = space.sample(random)
            assert architecture(text(member)) == member
            found.add(text(member))
        assert len(found) > 35
    assert nasbench201_text(nasbench201_architecture(ONE, channels=4, cells=1)) == ONE
    assert nasbench201_architecture(ONE, channels=4, cells=1).channels == 4
    assert nasbench_macro_architecture("01202222").blocks[1] == nasbench_macro_architecture("10000000").blocks[0]


def test_an_edge_that_is_not_there_is_none() -> None:
    member = nasbench201_architecture(TWO)
    first, second, third = member.cell.nodes
    bare = member.but(cell=member.cell.but(nodes=(first, second, third.but(edges=(third.edges[0], third.edges[2])))))
    assert nasbench201_text(bare) == TWO == nasbench201_text(member)
    assert bare in nasbench201_two_inputs()
    assert member in nasbench201()


def test_what_a_table_answers(short: NasTable) -> None:
    assert short.format.epochs == 12
    assert not short.whole
    assert short.text().startswith("nas-bench-201 after 12 epochs (the short schedule; on cifar10, valid is of")
    assert short.text().endswith("only 3 of 15,625")
    small = nasbench201_architecture(ONE, channels=4, cells=1)
    assert short.accuracy(small) == short.accuracy(ONE) == 69.55
    assert short.accuracy(small, "cifar100", "valid") == 31.84
    assert short.best() == (88.22, (TWO, THREE))
    assert short.best("cifar10", "valid") == (82.8, (TWO,))
    assert short.best(among=[ONE]) == (69.55, (ONE,))
    assert short.mean("cifar100") == pytest.approx((31.26 + 58.26 + 1) / 3)
    assert [short.rank(key) for key in (ONE, TWO, THREE)] == [3, 1, 1]
    assert short.rank(small, among=[small]) == 1
    assert short.architecture(ONE).channels == 16
    with pytest.raises(RequestError, match="does not hold"):
        short.accuracy(nasbench201().sample(Random(0)))
    with pytest.raises(RequestError, match="nas-bench-201 holds staged_cells, got image_cells"):
        short.accuracy(darts_v1())
    with pytest.raises(RequestError, match="has no cifar11 test; it has cifar10 test, cifar10 valid, cifar100 test"):
        short.accuracy(ONE, "cifar11")
    with pytest.raises(RequestError, match="architectures to look among, got none"):
        short.mean(among=[])


def test_the_long_schedule_and_the_chains(tmp_path: Path) -> None:
    (tmp_path / "nats_bench.csv").write_text(LONG)
    long = NasTable.read_file(tmp_path / "nats_bench.csv")
    assert (long.format.epochs, long.accuracy(TWO)) == (200, 93.66000000000001)
    assert long.accuracy(TWO, "imagenet16-120") == 44.03
    with pytest.raises(RequestError, match="nas-bench-201 after 200 epochs has no cifar10 valid"):
        long.accuracy(TWO, split="valid")
    (tmp_path / "macro.csv").write_text(MACRO)
    macro = NasTable.read_file(str(tmp_path / "macro.csv"))
    assert macro.accuracy(nasbench_macro_architecture("00000001", channels=4)) == 64.2233
    assert macro.best() == (64.2233, ("00000001",))
    with pytest.raises(RequestError, match="nas-bench-macro holds block_chain, got staged_cells"):
        macro.key(nasbench201_architecture(ONE))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", r"expected the columns cellstr, cifar10_test, .*; or ArchitectureString, .*table.csv has a, b"),
        (f"{HEADER}\n", "expected rows below the names of the columns in .*, got none"),
        (SHORT + "3,|none~0|+|none~0\n", "line 5: expected 8 columns, got 2"),
        (
            SHORT.replace("83.8", "").replace("88.22,82.8", "88.22,many"),
            "line 3, cifar10_val: .* 100 percent, got 'many'",
        ),
        (SHORT.replace("69.55", "nan"), "line 2, cifar10_test: expected an accuracy of 0 to 100 percent, got 'nan'"),
        (SHORT.replace("69.55", "169.55"), "line 2, cifar10_test: .* got '169.55'"),
        (SHORT.replace(TWO, ONE), r"line 3: \|avg_pool.* stands twice"),
        (SHORT.replace("none~1|skip", "nine~1|skip"), r"line 3: .*unknown operator 'nine'; did you mean 'none'\?"),
        (SHORT.replace("avg_pool_3x3~1", "avg_pool_3x3~0"), "line 3: node 1 of .*: expected the edges ~0, ~1, got"),
        (SHORT.replace("|+|none~0|none~1|+", "|+"), "line 4: expected 3 nodes, .*, got 2"),
        (MACRO.replace("00000001", "1"), "line 3: expected eight digits 0, 1 or 2, got '1'"),
    ],
)
def test_a_bad_table_is_refused_with_line_and_reason(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(RequestError, match=message):
        NasTable.read_file(tmp_path / "table.csv")


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(SHORT.encode())[:60])
    with pytest.raises(RequestError, match=r"expected a whole \.gz file, got a damaged one"):
        NasTable.read_file(tmp_path / "table.csv.gz")
    with pytest.raises(RequestError, match=r"readable file at .*nothing"):
        NasTable.read_file(tmp_path / "nothing.csv")


def test_what_a_table_cannot_write() -> None:
    member = nasbench201_architecture(ONE)
    two_nodes = member.but(cell=member.cell.but(nodes=member.cell.nodes[:2]))
    with pytest.raises(RequestError, match="has 3 nodes, got 2"):
        nasbench201_text(two_nodes)
    pooled = member.but(cell=cell([(0, darts_v1().reduction.nodes[0].edges[0].operator)], [(0, Skip())], [(0, Skip())],
                                  inputs=1))  # fmt: skip
    with pytest.raises(RequestError, match=r"cell\.nodes\.0: NAS-Bench-201 has no max_pool_3; expected one of zero, "):
        nasbench201_text(pooled)
    chain = nasbench_macro_architecture("00000000")
    with pytest.raises(RequestError, match="has 8 blocks, got 7"):
        nasbench_macro_text(chain.but(stages=(2, 3, 2), blocks=chain.blocks[:7]))
    other = chain.blocks[0].nodes[0].but(edges=(Edge(source=0, operator=NASBENCH201_NAMES["nor_conv_3x3"]),))
    with pytest.raises(RequestError, match=r"blocks\.0: NAS-Bench-Macro has no image_convolution_3"):
        nasbench_macro_text(chain.but(blocks=(chain.blocks[0].but(nodes=(other,)), *chain.blocks[1:])))


@published
def test_the_published_short_schedule() -> None:
    table = NasTable.read_file(DATA / "nas-bench-201-mini/accuracies.csv.gz")
    assert table.whole
    assert table.best()[0] == 89.16
    assert table.best(split="valid")[0] == pytest.approx(84.89, abs=0.005)
    members = [table.key(member) for member in nasbench201_two_inputs().members()]
    assert len(set(members)) == 3_072
    assert table.best(among=members) == table.best()  # the best cell of all has two inputs


@published
def test_the_published_chains_and_their_sizes() -> None:
    table = NasTable.read_file(DATA / "nas-bench-macro/cifar10.csv.gz")
    assert table.whole
    assert table.best() == (93.1267, ("22212202", "22212220"))
    assert table.accuracy("00000000") == pytest.approx(45.36, abs=0.005)
    for key, size in (("00000000", 387_882), ("00000001", 791_594), ("22212220", 1_985_514), ("22212222", 2_817_002)):
        network = outline(table.architecture(key), ImageSettings(classes=10))
        assert sum(parameter.numel() for parameter in network.parameters()) == size
