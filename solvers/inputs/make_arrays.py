#!/usr/bin/env python3
"""Writes the arrays and tables of the inputs in this folder. Needs nothing but Python."""
import math
import os
import random
import struct

FOLDER = os.path.dirname(os.path.abspath(__file__))


def save(name, shape, values):
    """NPY format 1.0, little-endian float64, C order."""
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': %r, }" % (shape,)
    header += " " * (63 - (10 + len(header)) % 64) + "\n"
    with open(os.path.join(FOLDER, name), "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        file.write(struct.pack("<%dd" % len(values), *values))


# -u'' + 4 u for u = sin(40 x) + exp(-x) cos(7 x)
n = 801
save("array-forcing.npy", (n,),
     [1604 * math.sin(40 * x) + math.exp(-x) * (52 * math.cos(7 * x) - 14 * math.sin(7 * x))
      for x in (2 * i / (n - 1) for i in range(n))])

# u_xx + 2 u_yy for u = sin(9 x) cos(5 y) + x y^2
nx, ny = 101, 101
xs = [i / (nx - 1) for i in range(nx)]
ys = [2 * j / (ny - 1) - 1 for j in range(ny)]
save("array-forcing-2d-x.npy", (nx,), xs)
save("array-forcing-2d-y.npy", (ny,), ys)
save("array-forcing-2d.npy", (nx, ny),
     [-131 * math.sin(9 * x) * math.cos(5 * y) + 4 * x for x in xs for y in ys])


def save_table(name, columns, rows):
    with open(os.path.join(FOLDER, name), "w") as file:
        file.write(",".join(columns) + "\n")
        for row in rows:
            file.write(",".join("%.9g" % value for value in row) + "\n")


# noisy-forcing.toml: -u'' + 4 u for u = sin(40 x) + exp(-x) cos(7 x), with errors of deviation 5
random.seed(20)
n = 401
save("noisy-forcing.npy", (n,),
     [1604 * math.sin(40 * x) + math.exp(-x) * (52 * math.cos(7 * x) - 14 * math.sin(7 * x))
      + random.gauss(0, 5) for x in (2 * i / (n - 1) for i in range(n))])

# assimilation.toml: u'' for u = sin(5 x) + x/3 with errors of deviation 2, and 30 values of u with
# errors of deviation 0.05, instead of conditions at the ends
random.seed(21)
n = 201
save("assimilation.npy", (n,),
     [-25 * math.sin(5 * x) + random.gauss(0, 2)
      for x in (2 * math.pi * i / (n - 1) for i in range(n))])
points = sorted(random.uniform(0, 2 * math.pi) for _ in range(30))
save_table("assimilation.csv", ("x", "u"),
           [(x, math.sin(5 * x) + x / 3 + random.gauss(0, 0.05)) for x in points])

# thermometers.toml: 60 values of a harmonic function, u = exp(x) sin(y) + x y, each with its deviation
random.seed(22)
rows = []
for _ in range(60):
    x, y, sigma = random.random(), random.random(), random.choice((0.01, 0.03))
    rows.append((x, y, math.exp(x) * math.sin(y) + x * y + random.gauss(0, sigma), sigma))
save_table("thermometers.csv", ("x", "y", "u", "sigma"), rows)
