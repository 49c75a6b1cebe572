#!/usr/bin/env python3
"""Writes the arrays of array-forcing.toml and array-forcing-2d.toml. Needs nothing but Python."""
import math
import os
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
