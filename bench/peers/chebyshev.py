"""The strongest classical peers of gp_pde on problems with smooth solutions: polynomial spectral
methods with fast diagonalisation, as good as NumPy and SciPy can make them.

    chebyshev.py [--repeats N] [--json FILE] [INPUT.toml ...]

- 1-D, a u'' = f: Chebyshev coefficients by DCT, integrated twice, O(N log N) (Greengard 1991).
- 2-D, a u_xx + b u_yy + c u = f, Dirichlet: Legendre-Galerkin with Shen's basis (Shen 1994), which
  makes the stiffness matrix the identity and the mass matrix symmetric and tridiagonal within each
  parity; fast diagonalisation; every product is folded by parity, half the work.
  For comparison also Chebyshev collocation with an unsymmetric eigendecomposition.
- a u_x + b u_t = f with inflow data: space-time Chebyshev collocation, complex Schur forms.

N is the smallest that comes within a factor two of the method's best error. Times are medians:
`setup` depends on the operator only, `data` evaluates forcing and boundary data, `solve` goes from
these arrays to values on the output grid of 300 points a dimension. With one BLAS thread or all,
whichever solves faster.
"""
import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.linalg
from threadpoolctl import threadpool_limits

from problem import Problem, Unsupported, relative_error


class Interval:
    """[lower, upper] as lower + half (1 + xi), xi in [-1, 1]."""

    def __init__(self, lower, upper):
        self.lower, self.upper, self.half = lower, upper, (upper - lower) / 2

    def physical(self, xi):
        # From the nearer end, so that the ends themselves are exact.
        return np.where(xi < 0, self.lower + self.half * (1 + xi), self.upper - self.half * (1 - xi))

    def reference(self, x):
        return np.clip(((x - self.lower) - (self.upper - x)) / (self.upper - self.lower), -1, 1)


class Integration1D:
    """a u'' = f, Dirichlet."""

    label = "Chebyshev integration"

    def __init__(self, problem, n, grid):
        if set(problem.operator) != {"xx"} or problem.kinds("x") != ("dirichlet", "dirichlet"):
            raise Unsupported("1-D: only a u_xx = f with Dirichlet ends")
        self.interval = Interval(*problem.domain[0])
        self.scale = self.interval.half**2 / problem.operator["xx"]
        self.nodes = np.cos(np.pi * np.arange(n + 1) / n)
        xi = self.interval.reference(grid[0])
        self.evaluation = np.cos(np.arccos(xi)[:, None] * np.arange(n + 3))

    def data(self, problem):
        ends = problem.exact(np.array([self.interval.lower, self.interval.upper]))
        return problem.forcing(self.interval.physical(self.nodes)), ends

    @staticmethod
    def integrate(a):
        n = len(a)
        padded = np.concatenate([a, np.zeros(2)])
        padded[0] *= 2
        b = np.zeros(n + 1)
        k = np.arange(1, n + 1)
        b[1:] = (padded[k - 1] - padded[k + 1]) / (2 * k)
        return b

    def solve(self, data):
        forcing, (lower, upper) = data
        a = scipy.fft.dct(forcing, type=1) / (len(forcing) - 1)
        a[0] /= 2
        a[-1] /= 2
        b = self.integrate(self.integrate(a)) * self.scale
        even, odd = b[0::2].sum(), b[1::2].sum()
        b[0] += (lower + upper) / 2 - even
        b[1] += (upper - lower) / 2 - odd
        return self.evaluation @ b


def legendre(n, x):
    """L_0 ... L_{n-1} at x, one a row."""
    values = np.empty((n, len(x)))
    values[0] = 1
    if n > 1:
        values[1] = x
    for k in range(1, n - 1):
        values[k + 1] = ((2 * k + 1) * x * values[k] - k * values[k - 1]) / (k + 1)
    return values


def gauss(n):
    """The positive half of the n Gauss-Legendre nodes, n even, with weights."""
    k = np.arange(1, n // 2 + 1)
    x = np.cos(np.pi * (k - 0.25) / (n + 0.5))
    for _ in range(6):
        previous, current = np.ones_like(x), x.copy()
        for j in range(1, n):
            previous, current = current, ((2 * j + 1) * x * current - j * previous) / (j + 1)
        slope = n * (previous - x * current) / (1 - x * x)
        step = current / slope
        x = x - step
        if np.abs(step).max() < 1e-16:
            break
    return x, 2 / ((1 - x * x) * slope**2)


class ShenFactor:
    """One dimension: L_k - L_{k+2}, k < n, of one parity, scaled to stiffness I, diagonalised."""

    def __init__(self, n, parity, nodes, weights, points):
        k = np.arange(parity, n, 2)
        scale = 1 / np.sqrt(4 * k + 6.0)
        diagonal = (2 / (2 * k + 1) + 2 / (2 * k + 5)) * scale**2
        off = -2 / (2 * k[:-1] + 5) * scale[:-1] * scale[1:]
        self.lam, self.modes = scipy.linalg.eigh_tridiagonal(diagonal, off)
        values = legendre(n + 2, np.concatenate([nodes, points]))
        basis = (values[k] - values[k + 2]) * scale[:, None]
        m = len(nodes)
        self.test = (self.modes.T @ basis[:, :m]) * weights
        self.evaluation = basis[:, m:].T @ self.modes
        # (h, phi): h = 1 meets only k = 0, h = x only k = 1.
        self.mass_with_lift = self.modes[0] * scale[0] * (2.0, 2.0 / 3.0)[parity]
        self.lift = (np.ones(len(points)), points)[parity]
        self.lift_nodes = (np.ones(m), nodes)[parity]
        # Coefficients of a function that vanishes at the ends: running sums of its Legendre ones.
        self.legendre = values[k, :m] * ((2 * k + 1) / 2.0)[:, None] * weights
        self.unscale = 1 / scale

    def edge(self, folded):
        """Modal coefficients of a folded edge function that vanishes at the ends."""
        return self.modes.T @ (np.cumsum(self.legendre @ folded) * self.unscale)


def fold(values, axis):
    """Sum and difference of the two halves of an axis, ordered from the positive end inwards."""
    half = (values.shape[axis] + 1) // 2
    upper = np.take(values, np.arange(half), axis)
    lower = np.take(values, np.arange(values.shape[axis] - 1, values.shape[axis] - 1 - half, -1), axis)
    return upper + lower, upper - lower


def unfold(even, odd, count):
    """From parts on the positive half to all points along the first axis, descending."""
    return np.concatenate([even + odd, (even - odd)[: count - len(even)][::-1]])


class Galerkin2D:
    label = "Legendre-Galerkin"

    def __init__(self, problem, n, grid):
        operator = dict(problem.operator)
        first, second = problem.axes
        self.c = operator.pop("", 0.0)
        a, b = operator.pop(first * 2, None), operator.pop(second * 2, None)
        if operator or a is None or b is None:
            raise Unsupported("2-D: only a u_xx + b u_yy + c u = f")
        if any(kind != "dirichlet" for axis in problem.axes for kind in problem.kinds(axis)):
            raise Unsupported("2-D: only Dirichlet sides")
        self.intervals = [Interval(*ends) for ends in problem.domain]
        self.alpha = a / self.intervals[0].half ** 2
        self.beta = b / self.intervals[1].half ** 2
        n += n % 2
        half_nodes, weights = gauss(n + 2)
        self.nodes = np.concatenate([half_nodes, -half_nodes[::-1]])
        self.counts = [len(axis) for axis in grid]
        self.factors = []
        for axis in range(2):
            if axis == 1 and self.counts[0] == self.counts[1]:
                self.factors.append(self.factors[0])  # the reference interval is the same
                break
            xi = self.intervals[axis].reference(grid[axis])[::-1]
            points = xi[: (len(xi) + 1) // 2]
            self.factors.append([ShenFactor(n, p, half_nodes, weights, points) for p in (0, 1)])
        self.denominator = {}
        for p in (0, 1):
            for q in (0, 1):
                x, y = self.factors[0][p].lam[:, None], self.factors[1][q].lam[None, :]
                self.denominator[p, q] = -self.alpha * y - self.beta * x + self.c * x * y

    def data(self, problem):
        x, y = (i.physical(self.nodes) for i in self.intervals)
        ends = [np.array([i.upper, i.lower]) for i in self.intervals]
        return (problem.forcing(x, y), problem.exact(ends[0], y), problem.exact(x, ends[1]),
                problem.exact(*ends))

    def solve(self, data):
        forcing, in_x, in_y, corners = data
        x_factor, y_factor = self.factors
        forcing = [fold(part, 1) for part in fold(forcing, 0)]  # [parity in x][parity in y]
        corner = [[c[0, 0] / 4 for c in fold(part, 1)] for part in fold(corners, 0)]
        in_x = [[g[0] / 2 for g in fold(part, 1)] for part in fold(in_x, 0)]
        in_y = [[g[:, 0] / 2 for g in fold(part, 1)] for part in fold(in_y, 0)]
        result = [[None, None], [None, None]]
        for p in (0, 1):
            fx = x_factor[p]
            for q in (0, 1):
                fy = y_factor[q]
                # Edge functions less their corners; fold doubles, so the lift counts twice.
                gx = fy.edge(in_x[p][q] - 2 * corner[p][q] * fy.lift_nodes)
                gy = fx.edge(in_y[p][q] - 2 * corner[p][q] * fx.lift_nodes)
                ex, ey = fx.mass_with_lift, fy.mass_with_lift
                right = fx.test @ forcing[p][q] @ fy.test.T
                right += np.outer(ex, (self.beta - self.c * fy.lam) * gx)
                right += np.outer((self.alpha - self.c * fx.lam) * gy, ey)
                right -= self.c * corner[p][q] * np.outer(ex, ey)
                right /= self.denominator[p, q]
                field = fx.evaluation @ right @ fy.evaluation.T
                field += np.outer(fx.lift, fy.evaluation @ gx + corner[p][q] * fy.lift)
                field += np.outer(fx.evaluation @ gy, fy.lift)
                result[p][q] = field
        rows = [unfold(result[p][0].T, result[p][1].T, self.counts[1]).T for p in (0, 1)]
        return unfold(rows[0], rows[1], self.counts[0])[::-1, ::-1]


def chebyshev_matrix(n):
    """Points from 1 down to -1, differentiation matrix with the negative-sum trick."""
    k = np.arange(n + 1)
    xi = np.sin(np.pi * (n - 2 * k) / (2 * n))
    c = np.where((k == 0) | (k == n), 2.0, 1.0) * (-1.0) ** k
    theta = np.pi * k / n
    # xi_i - xi_j without cancellation
    difference = 2 * np.sin((theta[:, None] + theta) / 2) * np.sin((theta - theta[:, None]) / 2)
    matrix = np.outer(c, 1 / c) / (difference + np.eye(n + 1))
    matrix -= np.diag(matrix.sum(axis=1))
    return xi, matrix


def interpolation(nodes, points):
    """Barycentric interpolation from Chebyshev points of the second kind."""
    weights = (-1.0) ** np.arange(len(nodes))
    weights[[0, -1]] /= 2
    difference = points[:, None] - nodes
    exact = difference == 0
    difference[exact] = 1
    matrix = weights / difference
    matrix /= matrix.sum(axis=1, keepdims=True)
    rows = exact.any(axis=1)
    matrix[rows] = exact[rows]
    return matrix


class Collocation2D:
    label = "Chebyshev collocation"

    def __init__(self, problem, n, grid):
        Galerkin2D.__init__(self, problem, 4, grid)  # the same conditions on the problem
        self.xi, d = chebyshev_matrix(n)
        second = d @ d
        inner = second[1:-1, 1:-1]
        lam, self.modes = np.linalg.eig(inner)
        lam, self.modes = lam.real, self.modes.real
        self.inverse = np.linalg.inv(self.modes)
        self.columns = second[1:-1][:, [0, -1]]
        self.denominator = self.alpha * lam[:, None] + self.beta * lam + self.c
        self.evaluation = [
            interpolation(self.xi, i.reference(g)) for i, g in zip(self.intervals, grid)
        ]

    def data(self, problem):
        x, y = (i.physical(self.xi) for i in self.intervals)
        ends = [a[[0, -1]] for a in (x, y)]
        return problem.forcing(x, y), problem.exact(ends[0], y), problem.exact(x, ends[1])

    def solve(self, data):
        forcing, in_x, in_y = data
        u = np.empty_like(forcing)
        u[[0, -1], :] = in_x
        u[:, [0, -1]] = in_y
        right = forcing[1:-1, 1:-1] - self.alpha * (self.columns @ in_x[:, 1:-1])
        right -= self.beta * (in_y[1:-1] @ self.columns.T)
        right = self.inverse @ right @ self.inverse.T / self.denominator
        u[1:-1, 1:-1] = self.modes @ right @ self.modes.T
        return self.evaluation[0] @ u @ self.evaluation[1].T


class SpaceTime:
    label = "Chebyshev space-time collocation"

    def __init__(self, problem, n, grid):
        if set(problem.operator) != set(problem.axes) or len(problem.axes) != 2:
            raise Unsupported("first order: only a u_x + b u_t = f")
        self.intervals = [Interval(*ends) for ends in problem.domain]
        self.xi, self.inner, self.matrix, self.known, self.evaluation = [], [], [], [], []
        self.schur, self.vectors = [], []
        for i, (axis, count) in enumerate(zip(problem.axes, n)):
            kinds = problem.kinds(axis)
            if sorted(kinds) != ["dirichlet", "none"]:
                raise Unsupported("first order: one Dirichlet end an axis")
            xi, d = chebyshev_matrix(count)
            known = count if kinds[0] == "dirichlet" else 0
            inner = [k for k in range(count + 1) if k != known]
            d = d * (problem.operator[axis] / self.intervals[i].half)
            t, z = scipy.linalg.schur(d[np.ix_(inner, inner)], output="complex")
            self.xi.append(xi)
            self.inner.append(inner)
            self.known.append(known)
            self.matrix.append(d[inner, known])
            self.schur.append(t)
            self.vectors.append(z)
            self.evaluation.append(interpolation(xi, self.intervals[i].reference(grid[i])))
        # trsyl solves T1 X + X T2 with both upper triangular: transpose the second through its
        # conjugate, T2 = Z^H D Z gives D^T = conj(Z) T2^T Z^T, taken with trana/tranb = 'T'.

    def data(self, problem):
        x, t = (i.physical(xi) for i, xi in zip(self.intervals, self.xi))
        return (problem.forcing(x, t), problem.exact(x[[self.known[0]]], t)[0],
                problem.exact(x, t[[self.known[1]]])[:, 0])

    def solve(self, data):
        forcing, at_x, at_t = data
        first, second = self.inner
        right = forcing[np.ix_(first, second)] - np.outer(self.matrix[0], at_x[second])
        right -= np.outer(at_t[first], self.matrix[1])
        z1, z2 = self.vectors
        # D1 U + U D2^T = R, D = Z T Z^H:  T1 Y + Y T2^T = Z1^H R conj(Z2), U = Z1 Y Z2^T
        reduced = z1.conj().T @ right @ z2.conj()
        # LAPACK has no plain transpose for complex data: conjugate the problem's second half.
        y, scale, info = scipy.linalg.lapack.ztrsyl(
            self.schur[0], self.schur[1].conj(), reduced, tranb="C")
        u = np.empty_like(forcing)
        u[np.ix_(first, second)] = (z1 @ (y / scale) @ z2.T).real
        u[self.known[0], :] = at_x
        u[:, self.known[1]] = at_t
        return self.evaluation[0] @ u @ self.evaluation[1].T


def median_times(method, problem, n, grid, repeats):
    times = {"setup": [], "data": [], "solve": []}
    for _ in range(repeats):
        start = time.perf_counter()
        solver = method(problem, n, grid)
        set_up = time.perf_counter()
        data = solver.data(problem)
        ready = time.perf_counter()
        solver.solve(data)
        end = time.perf_counter()
        times["setup"].append(set_up - start)
        times["data"].append(ready - set_up)
        times["solve"].append(end - ready)
    return {key: statistics.median(value) for key, value in times.items()}


def error_at(method, problem, n, grid, reference):
    solver = method(problem, n, grid)
    return relative_error(solver.solve(solver.data(problem)), reference)


def smallest(sizes, error_of):
    """The smallest size within a factor two of the best error; stops when no longer improving."""
    errors = []
    for size in sizes:
        errors.append((size, error_of(size)))
        best = min(error for _, error in errors)
        if len(errors) > 6 and best < 1e-6 and all(error > best for _, error in errors[-5:]):
            break
    best = min(error for _, error in errors)
    return next((size, error) for size, error in errors if error <= 2 * best)


def ladder(start, stop, ratio):
    sizes = [start]
    while sizes[-1] < stop:
        sizes.append(2 * int(np.ceil(sizes[-1] * ratio / 2)))
    return sizes


def measure(problem, method, repeats):
    grid = problem.output_grid()
    reference = problem.reference(grid)
    if method is SpaceTime:
        few, many = ladder(8, 40, 1.15), ladder(16, 700, 1.15)
        most, _ = smallest(many, lambda n: error_at(method, problem, (40, n), grid, reference))
        least, _ = smallest(many, lambda n: error_at(method, problem, (n, 40), grid, reference))
        # The axis that needs more points decides which of the two sweeps saw the solution.
        fast_second = most >= least
        large = max(most, least)
        pair = (lambda n: (n, large)) if fast_second else (lambda n: (large, n))
        n, error = smallest([pair(k) for k in few],
                            lambda n: error_at(method, problem, n, grid, reference))
    else:
        sizes = ladder(24, 8192, 1.1) if method is Integration1D else ladder(24, 800, 1.1)
        n, error = smallest(sizes, lambda n: error_at(method, problem, n, grid, reference))
    timings = []
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        with threadpool_limits(threads, user_api="blas"):
            timings.append({"threads": threads, **median_times(method, problem, n, grid, repeats)})
    return {"method": method.label, "n": n, "error": error,
            **min(timings, key=lambda times: times["solve"])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", nargs="*", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    root = Path(__file__).resolve().parents[2]
    results = {}
    for path in options.inputs or sorted((root / "solvers/inputs").glob("*.toml")):
        try:
            problem = Problem(path)
            methods = {1: [Integration1D], 2: [Galerkin2D, Collocation2D]}[len(problem.axes)]
            if len(problem.axes) == 2 and set(problem.operator) == set(problem.axes):
                methods = [SpaceTime]
            rows = [measure(problem, method, options.repeats) for method in methods]
        except Unsupported as reason:
            print(f"{path.stem}: no peer here: {reason}", file=sys.stderr)
            continue
        results[problem.name] = rows
        for row in rows:
            print(f"{problem.name:24} {row['method']:34} N = {str(row['n']):11}"
                  f" error {row['error']:.1e}  setup {row['setup']:.4f} s"
                  f"  data {row['data']:.4f} s  solve {row['solve']:.5f} s", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
