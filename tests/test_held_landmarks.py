import json

import numpy as np
import pytest
import torch
from conftest import TISSUE
from scipy.ndimage import map_coordinates

import register
from benchmarks.held import lost_tissue, truth_at
from benchmarks.synthetic import warped_pair
from register.engine.fit.held import Landmarks
from register.errors import FileError, RegisterError
from register.geometry import landmark_map
from register.geometry.landmark_lattice import Lattice, leave_one_out
from register.geometry.patch_grid import PatchGrid, displacement_at
from register.io.points.landmarks import read_pairs


def write_points(path, points):
    path.write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in points))
    return str(path)


def errors(alignment, truth):
    y, x = np.mgrid[: truth.shape[0], : truth.shape[1]]
    return np.linalg.norm(alignment.transform.field().numpy() + np.stack([x, y], 2) - truth, axis=2)


@pytest.fixture(scope="module")
def lattice():
    grid = PatchGrid.cover(400, 400, 40)
    return Lattice(grid, torch.full((grid.rows, grid.columns), 100.0, dtype=torch.float64))


def test_a_lattice_reproduces_an_affine_displacement_from_points(lattice):
    points = torch.from_numpy(np.random.default_rng(1).uniform(20, 380, (8, 2)))
    linear = torch.tensor([[0.02, -0.05], [0.03, 0.01]], dtype=torch.float64)
    moved = (points - 200) @ linear.T + torch.tensor([3.0, -7.0], dtype=torch.float64)
    seen, every = lattice.observed(points), torch.ones(8, dtype=torch.bool)
    found = seen.parameters(seen.choose(moved, 0.05, every), moved)
    others = torch.tensor([[200.0, 200.0], [120.0, 260.0]], dtype=torch.float64)
    expected = (others - 200) @ linear.T + torch.tensor([3.0, -7.0], dtype=torch.float64)
    assert float((displacement_at(lattice.grid, found, others) - expected).norm(dim=1).max()) < 0.2


def test_points_change_nothing_where_the_displacement_is_known(lattice):
    known = Lattice(lattice.grid, torch.full_like(lattice.deviation, 0.01))
    points, moved = torch.tensor([[200.0, 200.0]] * 1).double(), torch.tensor([[8.0, 0.0]]).double()
    seen = known.observed(points)
    found = seen.parameters(seen.choose(moved, 1.0, torch.ones(1, dtype=torch.bool)), moved)
    assert float(found.abs().max()) < 0.01


def test_leave_one_out_is_what_the_other_points_predict():
    rng = np.random.default_rng(0)
    root = torch.from_numpy(rng.normal(size=(5, 5)))
    covariance, residual = root @ root.T + torch.eye(5), torch.from_numpy(rng.normal(size=(5, 2)))
    found = leave_one_out(covariance, residual)
    weights = torch.linalg.solve(covariance[1:, 1:], covariance[1:, 0])
    assert torch.allclose(found.residual[0], residual[0] - weights @ residual[1:])
    assert torch.allclose(found.deviation[0] ** 2, covariance[0, 0] - weights @ covariance[1:, 0])


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_map_of_most_landmarks_ignores_two_wrong_ones(mirrored):
    rng = np.random.default_rng(3)
    matrix = torch.tensor([[0.9, 0.3, 12.0], [-0.3, 0.9, 50.0]], dtype=torch.float64)
    matrix[:, 0] *= -1 if mirrored else 1
    fixed = torch.from_numpy(rng.uniform(0, 500, (7, 2)))
    moving = fixed @ matrix[:, :2].T + matrix[:, 2] + torch.from_numpy(rng.normal(0, 1, (7, 2)))
    moving[[1, 4]] += torch.tensor([150.0, -90.0], dtype=torch.float64)
    found = landmark_map.agree(fixed, moving, 3.0)
    assert found.agrees.tolist() == [True, False, True, True, False, True, True]
    assert float((found.matrix[:, :2] - matrix[:, :2]).abs().max()) < 0.02


def test_landmarks_in_lost_tissue_give_the_map_there_and_change_nothing_elsewhere():
    case = lost_tissue(side=500, hole=150, amplitude=25, seed=0)
    without = errors(register.align(case.fixed, case.moving, preset="fast"), case.truth)
    held = case.landmarks(sigma=1.0)
    alignment = register.align(case.fixed, case.moving, preset="fast", held=held, landmark_sigma=1.0)
    error = errors(alignment, case.truth)
    assert np.median(without[case.hole]) > 3
    assert np.median(error[case.hole]) < 3
    assert np.median(error[case.outside]) < 1.1 * np.median(without[case.outside])  # the hole is 9 % of it
    assert alignment.quality.verdict == "ok"
    assert alignment.quality["held"]["sigma"] == 1.0
    assert all(one.kept for one in alignment.quality.held.points)


def test_a_wrong_landmark_is_named_and_bends_nothing(texture):
    pair = warped_pair(texture, 0.02, seed=1, noise=0.02)
    rng = np.random.default_rng(2)
    fixed = rng.uniform(60, 340, (6, 2))
    moving = truth_at(pair.moving_from_fixed, fixed) + rng.normal(0, 1, (6, 2))
    wrong = moving.copy()
    wrong[3] += [-150, 120]
    right = np.arange(6) != 3
    each = [
        register.align(pair.fixed, pair.moving, preset="fast", held=held)
        for held in ((fixed[right], moving[right]), (fixed, wrong))
    ]
    median = [np.median(errors(one, pair.moving_from_fixed)) for one in each]
    assert median[1] == pytest.approx(median[0], rel=0.05)
    assert [one.kept for one in each[1].quality.held.points] == [True, True, True, False, True, True]
    assert any("landmark 4" in reason and "was not used" in reason for reason in each[1].quality.reasons)
    assert not any("landmark" in reason for reason in each[0].quality.reasons)


def test_two_landmarks_that_agree_overrule_the_images(texture):
    held = Landmarks(*(torch.zeros(0, 2).double(),) * 2)
    assert held.sigma is None
    from register.engine.fit.held import _overruled

    cells = PatchGrid.cover(400, 400, 40)
    points = torch.tensor([[100.0, 100.0], [150.0, 110.0], [300.0, 300.0]]).double()
    residual = torch.tensor([[20.0, 0.0], [19.0, 1.0], [-15.0, 10.0]]).double()
    ones = torch.ones(3).double()
    seen = _overruled(
        cells, torch.ones(cells.rows, cells.columns).double(), points, residual, ones, 1.0, 566.0
    )
    assert float(seen[2, 3]) == 0  # around the two that agree
    assert float(seen[7, 7]) == 1  # a single one is not believed against the images


@pytest.mark.parametrize("model", ["similarity", pytest.param("local", marks=pytest.mark.slow)])
def test_landmarks_hold_where_the_images_show_nothing(model):
    rng = np.random.default_rng(5)
    fixed, moving = rng.uniform(size=(2, 240, 260))
    narrow = {"rotation_range": 0, "scale_range": 1, "preset": "fast", "model": model}
    matrix = np.array([[0.8, 0.6, -40.0], [-0.6, 0.8, 210.0]])
    points = rng.uniform(30, 220, (6, 2))
    target = points @ matrix[:, :2].T + matrix[:, 2]
    failed = register.align(fixed, moving, **narrow)
    alignment = register.align(fixed, moving, **narrow, held=(points, target))
    assert failed.quality.verdict == "failed"
    assert alignment.quality.verdict == "suspect"
    assert "6 landmarks agree" in alignment.quality.reasons[0]
    others = rng.uniform(30, 220, (20, 2))
    away = alignment.transform.map(others) - others @ matrix[:, :2].T - matrix[:, 2]
    assert np.linalg.norm(away, axis=1).max() < 2


def test_the_program_holds_landmarks_and_says_so(program, tmp_path):
    points = read_pairs("sample_images/tissue_landmarks_fixed.csv,sample_images/tissue_landmarks_moving.csv")
    fixed, moving = (x[::8].copy() for x in points)
    moving[2] += 90
    files = write_points(tmp_path / "f.csv", fixed), write_points(tmp_path / "m.csv", moving)
    out = program(
        "align",
        *TISSUE,
        "-o",
        tmp_path / "out",
        "--preset",
        "fast",
        "--no-report",
        "--landmarks-hold",
        ",".join(files),
    )
    assert out.returncode == 0, out.stderr
    assert "held, sigma" in out.stdout
    assert "not used: check it" in out.stdout
    saved = json.loads((tmp_path / "out" / "transform.json").read_text())
    held = saved["quality"]["held"]
    assert [one["kept"] for one in held["points"]].count(False) == 1
    assert held["files"] == ",".join(files)
    assert len(saved["provenance"]["files"]["landmarks_hold"]) == 2
    assert register.Transform.load(tmp_path / "out" / "transform.json").quality.held.points[2].kept is False


def test_one_file_of_bigwarp_holds_both_points(tmp_path):
    path = tmp_path / "landmarks.csv"
    path.write_text(
        '"Pt-0","true","1.0","2.0","3.0","4.0"\n'
        '"Pt-1","false","0","0","0","0"\n'
        '"Pt-2","true","5","6","7","8"\n'
    )
    fixed, moving = read_pairs(str(path))
    assert fixed.tolist() == [[3, 4], [7, 8]]
    assert moving.tolist() == [[1, 2], [5, 6]]


@pytest.mark.parametrize(
    ("fixed", "moving", "reason"),
    [
        ([[1, 2], [3, 4]], [[1, 2]], "holds 1 points and"),
        ([], [], "holds no landmarks"),
        ([[1, 2], [1, 2]], [[1, 2], [3, 4]], "the same point twice"),
    ],
)
def test_bad_landmarks_get_one_line(tmp_path, fixed, moving, reason):
    files = write_points(tmp_path / "f.csv", fixed), write_points(tmp_path / "m.csv", moving)
    with pytest.raises(FileError, match=reason):
        read_pairs(",".join(files))


def test_a_file_that_is_not_of_bigwarp_is_refused_by_line(tmp_path):
    for text, reason in (
        ("x,y\n1,2\n", "line 1 is no landmark of BigWarp"),
        ('"P","true","1","Infinity","3","4"\n', "line 1 has no number"),
    ):
        path = tmp_path / "one.csv"
        path.write_text(text)
        with pytest.raises(FileError, match=reason):
            read_pairs(str(path))


def test_a_sigma_without_landmarks_is_refused():
    with pytest.raises(RegisterError, match="landmarks-hold, which is not given"):
        register.align(np.eye(80), np.eye(80), landmark_sigma=2.0)
    with pytest.raises(RegisterError, match="numbers must be equal"):
        register.align(np.eye(80), np.eye(80), held=(np.zeros((3, 2)), np.zeros((2, 2))))


def test_the_benchmark_cases_are_what_they_say():
    case = lost_tissue(side=200, hole=60, amplitude=10, seed=1)
    fixed, moving = case.landmarks(sigma=0.0)
    assert np.allclose(truth_at(case.truth, fixed), moving)
    assert case.hole.sum() == pytest.approx(3600, rel=0.1)
    y, x = np.nonzero(~case.hole & case.outside)
    at = case.truth[y[::97], x[::97]]
    read = map_coordinates(case.moving, at.T[::-1], order=1)
    assert np.corrcoef(read, case.fixed[y[::97], x[::97]])[0, 1] > 0.9
