"""Products with (lambda I + G^T G/m)^-1 in Python, timed on request: the peers of bench/mfac_table.py.

    bench/peers/mfac.py G.npy X.npy --damping L [--threads N]

G is (m, d), float32; X is (k, d), float32. Reads requests from standard input, one JSON object a
line, and answers each with one:

    {"contender": NAME, "do": "prepare"}                  {"seconds": ...}, all that a product needs
    {"contender": NAME, "do": "diagonal"}                 of H^-1; needs the one before
    {"contender": NAME, "do": "product", "rows": [...], "of": "x" or "g"}
    ... "out": FILE.npy                                   writes what came out there, not timed
    {"do": "names"}                                       {"names": [...], "about": {...}}

Contenders:

  numpy recursion     the static recursion of M-FAC (Frantar, Kurtic, Alistarh 2021, section 3.1) in float32:
                      two matrix-vector products of NumPy's BLAS a row, no temporary but one row
  torch recursion     the same as the authors released it, class HInvFastSwap of prun.py in their repository
                      M-FAC, with one page and both devices the CPU: its operations in its order, on the rows
                      in place, without its paging buffer
  scipy float32       Woodbury with K = G G^T + m lambda I, Cholesky of LAPACK, all in float32
  scipy float64       the same in float64, the conversion of G included
  curvlinops cg       CGInverseLinearOperator of curvlinops on H, tolerance 1e-5 of its residual
  curvlinops neumann  NeumannInverseLinearOperator, 100 terms, scaled with 1/trace(H restricted to the rows)

Those whose package is missing are left out.
"""
import argparse
import json
import os
import sys
import time

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("gradients")
parser.add_argument("vectors")
parser.add_argument("--damping", type=float, required=True)
parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
options = parser.parse_args()
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(options.threads)  # before the libraries start theirs

import numpy as np  # noqa: E402
import scipy  # noqa: E402
from scipy.linalg import cho_factor, cho_solve, solve_triangular  # noqa: E402

try:
    import torch

    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
except ImportError:
    torch = None
try:
    import curvlinops
except ImportError:
    curvlinops = None


class NumpyRecursion:
    def __init__(self, g, damping):
        self.g, self.damping = g, np.float32(damping)
        self.m, self.d = g.shape
        self.v, self.q = np.empty_like(g), np.empty(self.m, np.float32)
        self.row = np.empty(self.d, np.float32)

    def prepare(self):
        g, v, q, row = self.g, self.v, self.q, self.row
        inverse = np.float32(1) / self.damping
        for i in range(self.m):
            np.multiply(g[i], inverse, out=v[i])
            if i > 0:
                c = v[:i] @ g[i]
                c /= q[:i]
                np.matmul(c, v[:i], out=row)
                v[i] -= row
            q[i] = self.m + g[i] @ v[i]

    def diagonal(self):
        out = np.full(self.d, 1 / self.damping, np.float32)
        for i in range(self.m):
            np.multiply(self.v[i], self.v[i], out=self.row)
            self.row /= self.q[i]
            out -= self.row
        return out

    def product(self, x):
        c = x @ self.v.T
        c /= self.q
        y = x / self.damping
        y -= c @ self.v
        return y


class TorchRecursion:
    def __init__(self, g, damping):
        self.source, self.inverse = torch.from_numpy(g), 1.0 / damping
        self.m, self.d = g.shape
        self.rows = torch.empty_like(self.source)
        self.q = torch.zeros(self.m)

    def before(self):
        self.rows.copy_(self.source)  # the released code overwrites the gradients it is given

    def prepare(self):
        rows, q = self.rows, self.q
        g = rows[0, :].clone()
        rows[0, :] = self.inverse * g
        q[0] = self.m + g.dot(rows[0, :])
        for i in range(1, self.m):
            g = rows[i, :].clone()
            rows[i, :] = self.inverse * g
            c = rows[:i, :].matmul(g) / q[:i]
            rows[i, :] -= c.matmul(rows[:i, :])
            q[i] = self.m + g.dot(rows[i, :])

    def diagonal(self):
        out = self.inverse * torch.ones(self.d)
        for i in range(self.m):
            out -= (self.rows[i, :] ** 2) / self.q[i]
        return out.numpy()

    def product(self, x):
        x = torch.from_numpy(x)
        if len(x) == 1:  # as released, which takes one vector
            x = x[0]
            y = self.inverse * x
            y -= (self.rows.matmul(x) / self.q).matmul(self.rows)
            return y[None].numpy()
        y = self.inverse * x
        y -= (x.matmul(self.rows.T) / self.q).matmul(self.rows)
        return y.numpy()


class Woodbury:
    def __init__(self, g, damping, kind):
        self.source, self.damping, self.kind = g, kind(damping), kind

    def prepare(self):
        self.g = self.source.astype(self.kind, copy=False)
        m = len(self.g)
        k = self.g @ self.g.T  # NumPy takes the symmetric product of BLAS here
        k[np.diag_indices(m)] += self.kind(m) * self.damping
        self.factor = cho_factor(k, lower=True, overwrite_a=True, check_finite=False)

    def diagonal(self):
        w = solve_triangular(self.factor[0], self.g, lower=True, check_finite=False)
        return (1 - np.einsum("ij,ij->j", w, w)) / self.damping

    def product(self, x):
        x = x.astype(self.kind, copy=False)
        a = cho_solve(self.factor, self.g @ x.T, check_finite=False)
        y = x - a.T @ self.g
        y /= self.damping
        return y


if curvlinops:
    class Fisher(curvlinops._torch_base.PyTorchLinearOperator):
        """H itself, for curvlinops."""
        SELF_ADJOINT = True

        def __init__(self, g, damping):
            super().__init__([(g.shape[1],)], [(g.shape[1],)])
            self.g, self.damping = g, damping

        def _matmat(self, x):
            return [self.damping * x[0] + self.g.T.matmul(self.g.matmul(x[0])) / len(self.g)]

        @property
        def dtype(self):
            return self.g.dtype

        @property
        def device(self):
            return self.g.device


class Curvlinops:
    def __init__(self, g, damping, kind):
        self.fisher, self.kind = Fisher(torch.from_numpy(g), damping), kind

    def prepare(self):
        if self.kind == "cg":
            self.inverse = curvlinops.CGInverseLinearOperator(
                self.fisher, tolerance=1e-5, max_iter=1000, max_tridiag_iter=0, eps=1e-30, stop_updating_after=1e-30)
        else:
            scale = 1 / float(self.fisher.damping + self.fisher.g.square().sum() / len(self.fisher.g))
            self.inverse = curvlinops.NeumannInverseLinearOperator(self.fisher, num_terms=100, scale=scale)

    def product(self, x):
        return self.inverse.__matmul__(torch.from_numpy(x).T.contiguous()).T.numpy()


def contenders():
    made = {"numpy recursion": lambda g, l: NumpyRecursion(g, l)}
    if torch:
        made["torch recursion"] = lambda g, l: TorchRecursion(g, l)
    made["scipy float32"] = lambda g, l: Woodbury(g, l, np.float32)
    made["scipy float64"] = lambda g, l: Woodbury(g, l, np.float64)
    if curvlinops:
        made["curvlinops cg"] = lambda g, l: Curvlinops(g, l, "cg")
        made["curvlinops neumann"] = lambda g, l: Curvlinops(g, l, "neumann")
    return made


def about():
    said = {"numpy": np.__version__, "scipy": scipy.__version__}
    if torch:
        said["torch"] = torch.__version__
    if curvlinops:
        from importlib.metadata import version
        said["curvlinops"] = version("curvlinops-for-pytorch")
    try:
        from threadpoolctl import threadpool_info
        said["blas"] = sorted({f"{p['internal_api']} {p.get('version')} {p.get('architecture', '')}".strip()
                               for p in threadpool_info() if p["user_api"] == "blas"})
    except ImportError:
        pass
    return said


def main():
    g, x = np.load(options.gradients), np.load(options.vectors)
    made, name, peer = contenders(), None, None
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "names":
            print(json.dumps({"names": list(made), "about": about()}), flush=True)
            continue
        if request["contender"] != name:
            peer = None  # its memory first
            name, peer = request["contender"], made[request["contender"]](g, options.damping)
        answer = {}
        rows = (x if request.get("of", "x") == "x" else g)[request.get("rows", [])].copy()
        if hasattr(peer, "before") and request["do"] == "prepare":
            peer.before()
        try:
            start = time.perf_counter()
            if request["do"] == "prepare":
                out = peer.prepare()
            elif request["do"] == "diagonal":
                out = peer.diagonal() if hasattr(peer, "diagonal") else None
            else:
                out = peer.product(rows)
            answer["seconds"] = time.perf_counter() - start
            if "out" in request and out is not None:
                np.save(request["out"], out)
        except (np.linalg.LinAlgError, RuntimeError, ValueError) as problem:  # a result of its own
            answer["failed"] = f"{type(problem).__name__}: {problem}"[:200]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
