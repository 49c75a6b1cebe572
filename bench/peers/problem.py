"""A PDE file of solvers/inputs as the peers need it: operator coefficients, data, exact solution.

Only what a classical solver with constant coefficients can take is mapped; anything else is
`Unsupported`. The exact solution is evaluated in extended precision, so that the reference's own
rounding does not count as an error of anybody.
"""
import tomllib
from pathlib import Path

import numpy as np
import sympy

PI = sympy.Symbol("pi_")
LONG_PI = np.longdouble("3.14159265358979323846264338327950288")


class Unsupported(Exception):
    """The file asks for something that the peers do not solve."""


def parse(text, names):
    """The formula `text`; numbers are exact, so that 0.1 means one tenth in every precision."""
    text = str(text).replace("^", "**")
    local = {name: sympy.Symbol(name) for name in names}
    local["pi"] = PI
    local["e"] = sympy.E
    return sympy.sympify(text, locals=local, rational=True)


def function(expression, names):
    """A NumPy function of the axes that works in the precision of its arguments."""
    symbols = [sympy.Symbol(name) for name in names]
    code = sympy.lambdify([*symbols, PI], expression, modules="numpy", cse=True)

    def call(*axes):
        dtype = np.result_type(*axes)
        grids = np.meshgrid(*axes, indexing="ij", sparse=True)
        value = code(*grids, LONG_PI if dtype == np.longdouble else np.pi)
        return np.broadcast_to(value, [len(axis) for axis in axes]).astype(dtype, copy=False)

    return call


class Problem:
    def __init__(self, path):
        path = Path(path)
        data = tomllib.loads(path.read_text())
        self.name = path.stem
        self.axes = list(data["domain"])
        parameters = {}
        for key, value in data.get("params", {}).items():
            parameters[sympy.Symbol(key)] = parse(value, self.axes + list(map(str, parameters)))

        def formula(text, names):
            known = names + [str(key) for key in parameters]
            return parse(text, known).subs(parameters).subs(parameters)

        self.domain = [
            tuple(float(formula(end, []).subs(PI, sympy.pi)) for end in data["domain"][axis])
            for axis in self.axes
        ]
        orders = {}
        for first in [""] + self.axes:
            for second in self.axes if first else [""]:
                for name in {first, first + second} - {""}:
                    orders["u_" + name] = name
        names = self.axes + ["u", "f"] + list(orders)
        equation = sympy.expand(formula(data["equation"]["expr"], names))
        unknowns = {"u": "", **orders}
        self.operator = {}  # derivative ("", "x", "xx", ...) -> coefficient
        rest = equation
        for name, derivative in unknowns.items():
            coefficient = equation.coeff(sympy.Symbol(name))
            if coefficient != 0:
                if coefficient.free_symbols - {PI}:
                    raise Unsupported("coefficients that vary, or terms that are not linear")
                self.operator[derivative] = float(coefficient.subs(PI, sympy.pi))
                rest -= coefficient * sympy.Symbol(name)
        rest = sympy.expand(rest)
        if rest.free_symbols & {sympy.Symbol(name) for name in unknowns}:
            raise Unsupported("terms that are not linear")

        if "exact" not in data:
            raise Unsupported("no exact solution")
        exact = formula(data["exact"]["u"], self.axes)
        self.exact = function(exact, self.axes)

        forcing = data.get("forcing", {}).get("f", "auto" if rest.has(sympy.Symbol("f")) else 0)
        if isinstance(forcing, dict) or str(forcing).endswith(".npy"):
            raise Unsupported("forcing from an array")
        manufactured = -rest.subs(sympy.Symbol("f"), 0)
        if rest.has(sympy.Symbol("f")):
            slope = -rest.coeff(sympy.Symbol("f"))
            if forcing == "auto":
                manufactured = 0
                for derivative, coefficient in self.operator.items():
                    term = exact
                    for axis in derivative:
                        term = sympy.diff(term, sympy.Symbol(axis))
                    manufactured += sympy.Rational(coefficient) * term
            else:
                manufactured += slope * formula(forcing, self.axes)
        # operator applied to u = forcing
        self.forcing = function(sympy.sympify(manufactured), self.axes)

        self.sides = {}
        for keys, side in data.get("bc", {}).items():
            for key in keys.split(","):
                self.sides[key.strip()] = side["type"]

    def kinds(self, axis):
        """Kinds of condition at the lower and upper end of an axis."""
        return self.sides.get(axis + "-", "none"), self.sides.get(axis + "+", "none")

    def output_grid(self, points=300):
        return [np.linspace(lower, upper, points) for lower, upper in self.domain]

    def reference(self, grid):
        return self.exact(*[axis.astype(np.longdouble) for axis in grid])


def relative_error(values, reference):
    difference = values.astype(np.longdouble) - reference
    return float(np.sqrt(np.sum(difference**2) / np.sum(reference**2)))
