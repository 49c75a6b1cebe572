#include "detail/pde_box.hpp"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "detail/blas_threads.hpp"
#include "detail/dd_eigen.hpp"
#include "detail/pde_discretisation.hpp"
#include "detail/separate.hpp"
#include "detail/setup_cache.hpp"
#include "detail/slab_sampler.hpp"
#include "detail/spectrum.hpp"
#include "halfulp/error.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::gp_pde::detail {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// C = A B or A B^T; everything row by row with the given strides.
void gemm(Size m, Size n, Size k, const double* a, Size lda, const double* b, Size ldb,
          bool transposed, double* c, Size ldc) {
  if (m == 0 || n == 0) return;
  if (k == 0) {
    for (Size i = 0; i < m; ++i) std::fill_n(c + i * ldc, n, 0.0);
    return;
  }
  cblas_dgemm(CblasRowMajor, CblasNoTrans, transposed ? CblasTrans : CblasNoTrans,
              static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), 1.0, a,
              static_cast<int>(lda), b, static_cast<int>(ldb), 0.0, c, static_cast<int>(ldc));
}

Doubles row_by_row(const la::DdMatrix& a) {
  Doubles out(a.rows() * a.cols());
  for (Size i = 0; i < a.rows(); ++i)
    for (Size j = 0; j < a.cols(); ++j) out[i * a.cols() + j] = a(i, j).hi;
  return out;
}

double rms_of(const Doubles& v) {
  double largest = 0;
  for (const double x : v) {
    if (!std::isfinite(x)) return std::numeric_limits<double>::quiet_NaN();
    largest = std::max(largest, std::fabs(x));
  }
  if (!(largest > 0)) return 0;
  double sum = 0;
  for (const double x : v) sum += (x / largest) * (x / largest);
  return largest * std::sqrt(sum / static_cast<double>(v.size()));
}

double relative(double value, double scale) { return scale > 0 ? value / scale : value; }

// Values on a grid from coefficients: one product an axis, a few rows of the first axis at a time.
Doubles contract(std::span<const Doubles* const> z, std::span<const Size> modes,
                 const Doubles& coefficients, int threads) {
  const la::OneBlasThread one;
  const auto d = static_cast<Size>(modes.size());
  std::vector<Size> n;
  Size total = 1;
  for (Size k = 0; k < d; ++k) {
    n.push_back(static_cast<Size>(z[k]->size()) / modes[k]);
    total *= n[k];
  }
  Doubles out(total);
  const Size panel = d == 2 ? 16 : 48, blocks = (n[0] + panel - 1) / panel;
  const Size inner = d == 2 ? modes[1] : modes[1] * modes[2];
  parallel_for(blocks, total * modes[0] < 400'000 ? 1 : threads, [&](Size b) {
    const Size first = b * panel, count = std::min(panel, n[0] - first);
    Doubles rows(count * inner);
    gemm(count, inner, modes[0], z[0]->data() + first * modes[0], modes[0], coefficients.data(),
         inner, false, rows.data(), inner);
    if (d == 2) {
      gemm(count, n[1], modes[1], rows.data(), modes[1], z[1]->data(), modes[1], true,
           out.data() + first * n[1], n[1]);
      return;
    }
    Doubles slab(n[1] * modes[2]);
    for (Size i = 0; i < count; ++i) {
      gemm(n[1], modes[2], modes[1], z[1]->data(), modes[1], rows.data() + i * inner, modes[2],
           false, slab.data(), modes[2]);
      gemm(n[1], n[2], modes[2], slab.data(), modes[2], z[2]->data(), modes[2], true,
           out.data() + (first + i) * n[1] * n[2], n[2]);
    }
  });
  return out;
}

// even[j] = right + left, odd[j] = right - left
void fold(const double* x, Size half, double* even, double* odd) {
  const double *right = x + half, *left = x + half - 1;
  for (Size j = 0; j < half; ++j) {
    even[j] = right[j] + left[-j];
    odd[j] = right[j] - left[-j];
  }
}
void fold(const double* right, const double* left, Size n, double* even, double* odd) {
  for (Size j = 0; j < n; ++j) {
    const double a = right[j], b = left[j];  // the results may overwrite them
    even[j] = a + b;
    odd[j] = a - b;
  }
}

Size parts(const BoxAxis& axis) { return axis.folded ? 2 : 1; }
Size offset(const BoxAxis& axis, Size part) { return part == 0 ? 0 : axis.rank[0]; }

Doubles project_line(const BoxAxis& a, const la::SlabSampler& f) {
  const auto n = static_cast<Size>(a.nodes.size());
  Doubles x(n), folded(2 * a.half), out(a.modes());
  f.rows(0, n, x.data());
  if (a.folded)
    fold(x.data(), a.half, folded.data(), folded.data() + a.half);
  else
    folded = x;
  for (Size p = 0; p < parts(a); ++p)
    gemm(a.rank[p], 1, a.half, a.projector[p].data(), a.half, folded.data() + p * a.half, 1, false,
         out.data() + offset(a, p), 1);
  return out;
}

// t[p] (part p of axis 0): half x inner, the other axes projected. Last, axis 0.
Doubles project_first(const BoxAxis& a, Size inner, const std::array<Doubles, 2>& t, int threads) {
  Doubles out(a.modes() * inner);
  const Size width = std::max<Size>(48, (inner / 64 + 15) / 16 * 16);
  const Size blocks = (inner + width - 1) / width;
  parallel_for(parts(a) * blocks, threads, [&](Size task) {
    const Size p = task / blocks, first = task % blocks * width;
    gemm(a.rank[p], std::min(width, inner - first), a.half, a.projector[p].data(), a.half,
         t[p].data() + first, inner, false, out.data() + offset(a, p) * inner + first, inner);
  });
  return out;
}

Doubles project_plane(const BoxAxis& a, const BoxAxis& b, const la::SlabSampler& f, int threads) {
  const auto n = static_cast<Size>(b.nodes.size());
  const Size r = b.modes(), panel = 16, blocks = (a.half + panel - 1) / panel;
  std::array<Doubles, 2> t;
  for (Size p = 0; p < parts(a); ++p) t[p].resize(a.half * r);
  parallel_for(blocks, threads, [&](Size block) {
    const Size first = block * panel, count = std::min(panel, a.half - first);
    Doubles right(count * n), left(a.folded ? count * n : 0), sum(2 * n), g(4 * count * b.half);
    const Size stride = count * b.half;  // of a class (part of a, part of b)
    f.rows(a.folded ? a.half + first : first, count, right.data());
    if (a.folded) f.rows(a.half - first - count, count, left.data());
    for (Size i = 0; i < count; ++i) {
      double *even = sum.data(), *odd = sum.data() + n;
      if (a.folded)
        fold(right.data() + i * n, left.data() + (count - 1 - i) * n, n, even, odd);
      else
        even = right.data() + i * n;
      for (Size p = 0; p < parts(a); ++p) {
        const double* row = p == 0 ? even : odd;
        double* to = g.data() + 2 * p * stride + i * b.half;
        if (b.folded)
          fold(row, b.half, to, to + stride);
        else
          std::copy_n(row, n, to);
      }
    }
    for (Size p = 0; p < parts(a); ++p)
      for (Size q = 0; q < parts(b); ++q)
        gemm(count, b.rank[q], b.half, g.data() + (2 * p + q) * stride, b.half,
             b.projector[q].data(), b.half, true, t[p].data() + first * r + offset(b, q), r);
  });
  return project_first(a, r, t, threads);
}

Doubles project_box(const BoxAxis& a, const BoxAxis& b, const BoxAxis& c, const la::SlabSampler& f,
                    int threads) {
  const auto n1 = static_cast<Size>(b.nodes.size()), n2 = static_cast<Size>(c.nodes.size());
  const Size r1 = b.modes(), r2 = c.modes(), plane = n1 * n2, inner = r1 * r2;
  std::array<Doubles, 2> t;
  for (Size p = 0; p < parts(a); ++p) t[p].resize(a.half * inner);
  parallel_for(a.half, threads, [&](Size i) {
    Doubles right(plane), left;
    f.rows(a.folded ? a.half + i : i, 1, right.data());
    if (a.folded) {
      left.resize(plane);
      f.rows(a.half - 1 - i, 1, left.data());
      fold(right.data(), left.data(), plane, right.data(), left.data());
    }
    Doubles sum(2 * n2), g(4 * b.half * c.half), half_way(b.half * std::max(c.rank[0], c.rank[1]));
    const Size stride = b.half * c.half;
    for (Size p = 0; p < parts(a); ++p) {
      const Doubles& slab = p == 0 ? right : left;
      for (Size j = 0; j < b.half; ++j) {
        const double *even = sum.data(), *odd = sum.data() + n2;
        if (b.folded)
          fold(slab.data() + (b.half + j) * n2, slab.data() + (b.half - 1 - j) * n2, n2, sum.data(),
               sum.data() + n2);
        else
          even = slab.data() + j * n2;
        for (Size q = 0; q < parts(b); ++q) {
          const double* row = q == 0 ? even : odd;
          double* to = g.data() + 2 * q * stride + j * c.half;
          if (c.folded)
            fold(row, c.half, to, to + stride);
          else
            std::copy_n(row, n2, to);
        }
      }
      for (Size q = 0; q < parts(b); ++q)
        for (Size s = 0; s < parts(c); ++s) {
          gemm(b.half, c.rank[s], c.half, g.data() + (2 * q + s) * stride, c.half,
               c.projector[s].data(), c.half, true, half_way.data(), c.rank[s]);
          gemm(b.rank[q], c.rank[s], b.half, b.projector[q].data(), b.half, half_way.data(),
               c.rank[s], false, t[p].data() + i * inner + offset(b, q) * r2 + offset(c, s), r2);
        }
    }
  });
  return project_first(a, inner, t, threads);
}

bool same_condition(const Side& p, const Side& q) {
  return p.kind == q.kind && p.a == q.a && p.b == q.b;
}

}  // namespace

bool diagonalisable(const Checked& c) {
  if (c.newton || !c.constant || c.mixed.hi != 0 || !c.options.nodes_per_axis.empty()) return false;
  if (c.op.forcing_factor != 0 && std::holds_alternative<GridSamples>(c.problem.forcing))
    return false;
  return std::all_of(c.axis.begin(), c.axis.end(),
                     [](const AxisOperator& a) { return a.has_second && !a.has_first; });
}

namespace {

la::SymmetricEigen eigen(const la::DdMatrix& a, int threads, la::SetupCache* cache) {
  const auto make = [&] { return la::symmetric_eigen(a, threads); };
  if (cache == nullptr) return make();
  return la::cached(
      cache, "eigen", "build: " + la::build_key() + "\nmatrix: " + la::matrix_text(a) + '\n', make,
      [](la::ByteWriter& out, const la::SymmetricEigen& e) {
        out.put_array(e.values);
        la::put_matrix(out, e.vectors);
        out.put(e.rounds);
        out.put(e.last_change);
      },
      [](la::ByteReader& in) {
        la::SymmetricEigen e;
        e.values = in.get_array<dd>();
        e.vectors = la::get_matrix(in);
        e.rounds = in.get<int>();
        e.last_change = in.get<double>();
        return e;
      });
}

}  // namespace

BoxAxis::BoxAxis(const Checked& c, Size k, std::shared_ptr<const la::FourierBasis> b)
    : basis(std::move(b)), length(c.length(k).hi) {
  std::array<la::DdMatrix, 2> loads;
  const la::DdMatrix a = axis_matrix(c, k, *basis, loads);
  const Size r = basis->size(), even = basis->even();
  double coupling = 0, largest = 0;
  for (Size j = 0; j < r; ++j)
    for (Size i = 0; i < r; ++i) {
      const double v = std::fabs(a(i, j).hi);
      largest = std::max(largest, v);
      if ((i < even) != (j < even)) coupling = std::max(coupling, v);
    }
  folded = coupling <= 1e-24 * largest;
  rank = folded ? std::array<Size, 2>{even, r - even} : std::array<Size, 2>{r, 0};

  // Data and eigenfunctions have frequencies up to w, their products twice that: exact to rounding
  // from w L / 2 nodes on, and as many as the Bessel functions' tails take to fall off.
  const double half_turns = 0.5 * basis->largest_frequency() * length;
  auto n = static_cast<Size>(half_turns + 8 * std::cbrt(half_turns)) + 12;
  n += n % 2;
  Points x, w;
  la::gauss_legendre_half(n, x, w);
  const dd centre = (c.end(k, 0) + c.end(k, 1)) * 0.5, radius = c.length(k) * 0.5;
  Points weights;
  for (Size i = n / 2; i-- > 0;) {
    nodes.push_back(centre - x[i] * radius);
    weights.push_back(w[i] * radius);
  }
  for (Size i = 0; i < n / 2; ++i) {
    nodes.push_back(centre + x[i] * radius);
    weights.push_back(w[i] * radius);
  }
  half = folded ? n / 2 : n;
  const Points used(nodes.end() - half, nodes.end());
  weights.erase(weights.begin(), weights.end() - half);
  const la::DdMatrix at_nodes = scale_rows(basis->evaluate(used, 0), weights);

  la::DdMatrix vectors(r, r);
  integral.assign(r, 0.0);
  for (Size p = 0; p < 2; ++p) {
    const Size first = p == 0 ? 0 : rank[0], m = rank[p];
    if (m == 0) continue;
    la::DdMatrix block(m, m), rows(half, m);
    for (Size j = 0; j < m; ++j) {
      for (Size i = 0; i < m; ++i) block.set(i, j, a(first + i, first + j));
      for (Size i = 0; i < half; ++i) rows.set(i, j, at_nodes(i, first + j));
    }
    const la::SymmetricEigen e = eigen(block, c.threads, c.cache.get());
    values.insert(values.end(), e.values.begin(), e.values.end());
    for (Size j = 0; j < m; ++j)
      for (Size i = 0; i < m; ++i) vectors.set(first + i, first + j, e.vectors(i, j));
    const la::DdMatrix combined =
        la::multiply_transposed(e.vectors, la::transpose(rows), c.threads);
    projector[p] = row_by_row(combined);
    for (Size i = 0; i < m && p == 0; ++i) {
      dd sum = 0.0;
      for (Size j = 0; j < half; ++j) sum += combined(i, j);
      integral[i] = (folded ? 2.0 * sum : sum).hi;
    }
  }
  for (int s = 0; s < 2; ++s)
    if (has_data(c.problem.sides[k][s]))
      load[s] = row_by_row(la::multiply_transposed(vectors, loads[s], c.threads));
  to_features_ = basis->to_features(vectors);
}

std::shared_ptr<const Doubles> BoxAxis::evaluate(const Points& points, int order,
                                                 int threads) const {
  constexpr std::size_t kept = 6;
  const std::lock_guard lock(mutex_);
  for (const Evaluated& e : evaluated_)
    if (e.order == order && e.points == points) return e.values;
  auto values = std::make_shared<const Doubles>(
      row_by_row(la::multiply(basis->features_at(points, order), to_features_, threads)));
  evaluated_.push_back({points, order, values});
  if (evaluated_.size() > kept) evaluated_.pop_front();
  return values;
}

Doubles BoxField::values(std::span<const Points> points, std::span<const int> orders) const {
  std::vector<std::shared_ptr<const Doubles>> z;
  std::vector<const Doubles*> pointers;
  std::vector<Size> modes;
  bool differentiated = false;
  for (std::size_t k = 0; k < axes.size(); ++k) {
    z.push_back(axes[k]->evaluate(points[k], orders[k], threads));
    pointers.push_back(z.back().get());
    modes.push_back(axes[k]->modes());
    differentiated = differentiated || orders[k] > 0;
  }
  Doubles out = contract(pointers, modes, coefficients, threads);
  if (shift != 0 && !differentiated)
    for (double& v : out) v += shift;
  return out;
}

double BoxField::rms() const {
  double volume = 1;
  for (const auto& axis : axes) volume *= axis->length;
  const double mean_square = rms_of(coefficients) * rms_of(coefficients) *
                             static_cast<double>(coefficients.size()) / volume;
  return std::sqrt(mean_square + shift * shift);
}

BoxSolver::BoxSolver(const Checked& c, std::vector<std::shared_ptr<const la::FourierBasis>> basis,
                     Timings& timings) {
  Stopwatch watch(timings);
  const Size d = c.dimension();
  for (Size k = 0; k < d; ++k) {
    for (Size j = 0; j < k && static_cast<Size>(axes_.size()) == k; ++j)
      if (basis[j] == basis[k] && (c.axis[j].second - c.axis[k].second).hi == 0 &&
          same_condition(c.problem.sides[j][0], c.problem.sides[k][0]) &&
          same_condition(c.problem.sides[j][1], c.problem.sides[k][1]))
        axes_.push_back(axes_[j]);
    if (static_cast<Size>(axes_.size()) == k)
      axes_.push_back(std::make_shared<BoxAxis>(c, k, basis[k]));
  }
  watch.lap("eigenvalues");
  const auto &x = axes_[0]->values, &y = axes_[1]->values;
  const std::vector<dd> zero{dd(0.0)};
  const auto& z = d == 3 ? axes_[2]->values : zero;
  for (const dd& a : x)
    for (const dd& b : y) plane_sum_.push_back(a + b + c.reaction);
  double smallest = infinity, largest = 0, null = infinity;
  std::size_t null_at[2] = {0, 0};
  for (int pass = c.singular ? 0 : 1; pass < 2; ++pass)
    for (std::size_t i = 0; i < plane_sum_.size(); ++i)
      for (std::size_t l = 0; l < z.size(); ++l) {
        if (c.singular && pass == 1 && i == null_at[0] && l == null_at[1]) continue;
        const double size = std::fabs((plane_sum_[i] + z[l]).hi);
        if (pass == 0 && size < null) {
          null = size;
          null_at[0] = i;
          null_at[1] = l;
        }
        if (pass == 1) {
          smallest = std::min(smallest, size);
          largest = std::max(largest, size);
        }
      }
  if (c.singular)
    null_ = {static_cast<Size>(null_at[0] / y.size()), static_cast<Size>(null_at[0] % y.size()),
             static_cast<Size>(null_at[1])};
  smallest_eigenvalue = smallest;
  condition = smallest > 0 ? largest / smallest : infinity;
  if (d == 2) {
    for (const dd& sum : plane_sum_) inverse_.push_back((1.0 / sum).hi);
    plane_sum_.clear();
  }

  const Size q = d == 2 ? 24 : 20;
  for (Size k = 0; k < d; ++k) {
    points_.push_back(make_nodes(Nodes::gauss, c.end(k, 0), c.end(k, 1), q));
    Size same = k;
    for (Size j = k; j-- > 0;)
      if (axes_[j] == axes_[k]) same = j;
    if (same < k) {
      at_points_.push_back(at_points_[same]);
      continue;
    }
    std::array<std::shared_ptr<const Doubles>, 3> at;
    for (int order = 0; order < 3; ++order)
      at[order] = axes_[k]->evaluate(points_[k], order, c.threads);
    at_points_.push_back(std::move(at));
  }
  for (Size k = 0; k < d; ++k)
    for (int s = 0; s < 2; ++s) {
      const Side& side = c.problem.sides[k][s];
      if (!has_data(side)) continue;
      SideData data;
      data.axis = k;
      data.end = s;
      data.slope = side.b;
      std::vector<std::string> names;
      std::vector<Points> points;
      for (Size j = 0; j < d; ++j)
        if (j != k) {
          names.push_back(c.names[j]);
          points.push_back(points_[j]);
        }
      const Expression formula = side.g.substitute(c.names[k], Expression(c.end(k, s)));
      const Program<dd> g(formula, names);
      auto products = project_products(formula, names, k, c.threads);
      data.coefficients = products ? std::move(*products) : project(g, k, c.threads);
      Size count = 1;
      for (const Points& p : points) count *= static_cast<Size>(p.size());
      data.at_points.resize(count);
      la::SlabSampler(g, points, 1)
          .rows(0, static_cast<Size>(points[0].size()), data.at_points.data());
      const Points end{c.end(k, s)};
      const auto u = axes_[k]->evaluate(end, 0, 1), du = axes_[k]->evaluate(end, 1, 1);
      const double n = s == 0 ? -1 : 1;
      for (std::size_t i = 0; i < u->size(); ++i)
        data.trace.push_back(side.a * (*u)[i] + side.b * n * (*du)[i]);
      sides_.push_back(std::move(data));
    }
  if (c.singular && c.problem.exact) {
    const Doubles e = project(Program<dd>(*c.problem.exact, c.names), -1, c.threads);
    BoxField exact{axes_, e, 0, c.threads};
    const Size inner = static_cast<Size>(e.size()) / axes_[0]->modes();
    double sum = 0, volume = 1;
    for (const auto& axis : axes_) volume *= axis->length;
    for (Size i = 0; i < axes_[0]->modes(); ++i)
      for (Size m = 0; m < inner; ++m) {
        const Size r2 = d == 3 ? axes_[2]->modes() : 1;
        sum += axes_[0]->integral[i] * axes_[1]->integral[m / r2] *
               (d == 3 ? axes_[2]->integral[m % r2] : 1.0) * e[i * inner + m];
      }
    exact_mean_ = sum / volume;
  }
  watch.lap("boundary data");
}

Doubles BoxSolver::project(const Program<dd>& formula, Size skip, int threads) const {
  const la::OneBlasThread one;
  std::vector<const BoxAxis*> axes;
  std::vector<Points> nodes;
  for (std::size_t k = 0; k < axes_.size(); ++k)
    if (static_cast<Size>(k) != skip) {
      axes.push_back(axes_[k].get());
      nodes.push_back(axes_[k]->nodes);
    }
  const la::SlabSampler f(formula, nodes, threads);
  if (axes.size() == 1) return project_line(*axes[0], f);
  if (axes.size() == 2) return project_plane(*axes[0], *axes[1], f, threads);
  return project_box(*axes[0], *axes[1], *axes[2], f, threads);
}

std::optional<Doubles> BoxSolver::project_products(const Expression& formula,
                                                   const std::vector<std::string>& names, Size skip,
                                                   int threads) const {
  constexpr std::size_t most = 48;
  const auto terms = la::separate(formula, names, most);
  if (!terms || terms->empty()) return std::nullopt;
  const la::OneBlasThread one;
  const auto count = static_cast<Size>(terms->size());
  std::vector<const BoxAxis*> axes;
  for (std::size_t k = 0; k < axes_.size(); ++k)
    if (static_cast<Size>(k) != skip) axes.push_back(axes_[k].get());
  const std::size_t d = axes.size();
  std::array<Doubles, 3> factor;  // count x modes
  for (std::size_t k = 0; k < d; ++k) {
    const BoxAxis& a = *axes[k];
    std::vector<Expression> formulas;
    for (const auto& t : *terms) formulas.push_back(t[k]);
    const auto n = static_cast<Size>(a.nodes.size());
    std::vector<dd> values(count * n);
    Program<dd>(formulas, {names[k]}).on_grid(std::vector<Points>{a.nodes}, values, threads);
    Doubles line(n), folded(2 * count * a.half);
    for (Size t = 0; t < count; ++t) {
      for (Size i = 0; i < n; ++i) line[i] = values[t * n + i].hi;
      if (a.folded)
        fold(line.data(), a.half, folded.data() + t * a.half, folded.data() + (count + t) * a.half);
      else
        std::copy_n(line.data(), n, folded.data() + t * n);
    }
    factor[k].resize(count * a.modes());
    for (Size p = 0; p < parts(a); ++p)
      gemm(count, a.rank[p], a.half, folded.data() + p * count * a.half, a.half,
           a.projector[p].data(), a.half, true, factor[k].data() + offset(a, p), a.modes());
  }
  const Size r0 = axes[0]->modes(), r1 = d > 1 ? axes[1]->modes() : 1,
             r2 = d == 3 ? axes[2]->modes() : 1;
  // sum over terms of a (x) b (x) c, one slab of the first index after the other.
  Doubles out(r0 * r1 * r2);
  if (d == 1) {
    for (Size t = 0; t < count; ++t)
      for (Size i = 0; i < r0; ++i) out[i] += factor[0][t * r0 + i];
  } else if (d == 2) {
    Doubles transposed(r0 * count);
    for (Size t = 0; t < count; ++t)
      for (Size i = 0; i < r0; ++i) transposed[i * count + t] = factor[0][t * r0 + i];
    gemm(r0, r1, count, transposed.data(), count, factor[1].data(), r1, false, out.data(), r1);
  } else {
    parallel_for(r0, threads, [&](Size i) {
      Doubles scaled(r1 * count);
      for (Size t = 0; t < count; ++t)
        for (Size j = 0; j < r1; ++j)
          scaled[j * count + t] = factor[0][t * r0 + i] * factor[1][t * r1 + j];
      gemm(r1, r2, count, scaled.data(), count, factor[2].data(), r2, false,
           out.data() + i * r1 * r2, r2);
    });
  }
  // Terms much larger than their sum have lost as many digits.
  double sum = 0;
  for (Size t = 0; t < count; ++t) {
    double size = 1;
    for (std::size_t k = 0; k < d; ++k) {
      const auto r = axes[k]->modes();
      double square = 0;
      for (Size i = 0; i < r; ++i) square += factor[k][t * r + i] * factor[k][t * r + i];
      size *= std::sqrt(square);
    }
    sum += size;
  }
  const double size = rms_of(out) * std::sqrt(static_cast<double>(out.size()));
  if (!(sum <= 16 * size)) return std::nullopt;
  return out;
}

BoxField BoxSolver::solve(const Checked& c, const RightHandSide& rhs, Timings& timings) const {
  Stopwatch watch(timings);
  const Size d = c.dimension(), r0 = axes_[0]->modes(), r1 = axes_[1]->modes(),
             r2 = d == 3 ? axes_[2]->modes() : 1;
  auto products = project_products(rhs.expression, c.names, -1, c.threads);
  BoxField field{axes_, products ? std::move(*products) : project(rhs.formula, -1, c.threads), 0,
                 c.threads};
  Doubles& x = field.coefficients;
  watch.lap("projection");
  for (const SideData& side : sides_) {
    const Doubles& load = axes_[side.axis]->load[side.end];
    const Doubles& g = side.coefficients;
    if (std::all_of(g.begin(), g.end(), [](double v) { return v == 0; })) continue;
    for (Size i = 0; i < r0; ++i)
      for (Size j = 0; j < r1; ++j) {
        double* to = x.data() + (i * r1 + j) * r2;
        if (side.axis == 0)
          for (Size k = 0; k < r2; ++k) to[k] += load[i] * g[j * r2 + k];
        else if (side.axis == 1)
          for (Size k = 0; k < r2; ++k) to[k] += load[j] * g[i * r2 + k];
        else
          for (Size k = 0; k < r2; ++k) to[k] += load[k] * g[i * r1 + j];
      }
  }
  if (d == 2) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] *= inverse_[i];
  } else {
    const auto& nu = axes_[2]->values;
    parallel_for(r0, c.threads, [&](Size i) {
      for (Size j = 0; j < r1; ++j) {
        const dd sum = plane_sum_[i * r1 + j];
        double* to = x.data() + (i * r1 + j) * r2;
        for (Size k = 0; k < r2; ++k) {
          const dd s = kernel::two_sum(sum.hi, nu[k].hi);
          to[k] /= s.hi + (s.lo + sum.lo + nu[k].lo);
        }
      }
    });
  }
  if (c.singular) {
    x[(null_[0] * r1 + null_[1]) * r2 + null_[2]] = 0;
    double sum = 0, volume = 1;
    for (const auto& axis : axes_) volume *= axis->length;
    for (Size i = 0; i < r0; ++i)
      for (Size j = 0; j < r1; ++j)
        for (Size k = 0; k < r2; ++k)
          sum += axes_[0]->integral[i] * axes_[1]->integral[j] *
                 (d == 3 ? axes_[2]->integral[k] : 1.0) * x[(i * r1 + j) * r2 + k];
    field.shift = exact_mean_ - sum / volume;
  }
  watch.lap("solve");
  return field;
}

BoxQuality BoxSolver::measure(const Checked& c, const RightHandSide& rhs,
                              const BoxField& field) const {
  const Size d = c.dimension();
  BoxQuality q;
  Size total = 1;
  std::vector<Size> modes;
  for (Size k = 0; k < d; ++k) {
    total *= static_cast<Size>(points_[k].size());
    modes.push_back(axes_[k]->modes());
  }
  Doubles residual(total);
  la::SlabSampler(rhs.formula, points_, 1)
      .rows(0, static_cast<Size>(points_[0].size()), residual.data());
  q.scale = rms_of(residual);
  for (double& v : residual) {
    q.largest = std::max(q.largest, std::fabs(v));
    v = -v;
  }
  std::vector<const Doubles*> z(d);
  double u_size = 0;
  bool have_u = false;
  for (const auto& [orders, value] : c.op.coefficients) {
    for (Size k = 0; k < d; ++k) z[k] = at_points_[k][orders[k]].get();
    const double factor = value.constant().hi;
    Doubles term = contract(z, modes, field.coefficients, c.threads);
    const bool plain = std::all_of(orders.begin(), orders.end(), [](int o) { return o == 0; });
    for (double& v : term) v = factor * (plain ? v + field.shift : v);
    q.scale = std::max(q.scale, rms_of(term));
    if (plain) {
      u_size = rms_of(term) / std::fabs(factor);
      have_u = true;
    }
    for (Size i = 0; i < total; ++i) residual[i] += term[i];
  }
  q.residual = relative(rms_of(residual), q.scale);
  if (!have_u && !sides_.empty()) {
    for (Size k = 0; k < d; ++k) z[k] = at_points_[k][0].get();
    Doubles u = contract(z, modes, field.coefficients, c.threads);
    for (double& v : u) v += field.shift;
    u_size = rms_of(u);
  }
  for (const SideData& side : sides_) {
    const Side& s = c.problem.sides[side.axis][side.end];
    for (Size k = 0; k < d; ++k) z[k] = k == side.axis ? &side.trace : at_points_[k][0].get();
    Doubles defect = contract(z, modes, field.coefficients, c.threads);
    for (double& v : defect) v += s.a * field.shift;
    const double scale = std::max({rms_of(side.at_points), rms_of(defect), std::fabs(s.a) * u_size,
                                   std::fabs(s.b) * u_size / axes_[side.axis]->length});
    for (std::size_t i = 0; i < defect.size(); ++i) defect[i] -= side.at_points[i];
    const double value = relative(rms_of(defect), scale);
    if (!(value <= q.boundary)) q.boundary = value;
  }
  if (std::isnan(q.residual) || std::isnan(q.boundary)) q.residual = q.boundary = infinity;
  return q;
}

namespace {

double top_of(const std::vector<Band>& bands) {
  double top = 0;
  for (const Band& b : bands) top = std::max(top, b.upper);
  return top;
}

struct Attempt {
  std::vector<std::vector<Band>> bands;
  std::vector<std::shared_ptr<const la::FourierBasis>> basis;
  BoxSolver solver;
  BoxField field;
  BoxQuality quality;
  [[nodiscard]] double worst() const { return std::max(quality.residual, quality.boundary); }
};

void require_memory(const Checked& c, const Attempt& a) {
  double projected = 1, modes = 1, nodes = 1;
  for (std::size_t k = 0; k < a.basis.size(); ++k) {
    const auto r = static_cast<double>(a.basis[k]->size());
    const double n = 1.2 * static_cast<double>(a.basis[k]->nodes().size());
    modes *= r;
    projected *= k == 0 ? n : r;
    if (k > 0) nodes *= n;
  }
  // The first product's result, coefficients of two discretisations, a few slabs a thread.
  const double bytes = 8 * (projected + 4 * modes + 4 * nodes * c.threads);
  if (!(bytes <= static_cast<double>(c.options.memory_limit)))
    throw DomainError("gp_pde::Solver", "options.memory_limit",
                      std::to_string(static_cast<long long>(c.options.memory_limit >> 20)) + " MiB",
                      "at least " + std::to_string(static_cast<long long>(bytes / (1 << 20)) + 1) +
                          " MiB for so many modes");
}

Attempt attempt(const Checked& c, const RightHandSide& rhs, std::vector<std::vector<Band>> bands,
                double margin, Size most, Timings& timings) {
  Attempt a;
  Stopwatch watch(timings);
  for (Size k = 0; k < c.dimension(); ++k) {
    la::BasisOptions o;
    o.kernel = c.options.kernel;
    o.margin = margin;
    o.max_modes = most;
    o.tolerance = 6e-17;
    o.periodic = c.axis[k].periodic;
    o.threads = c.threads;
    bands[k].push_back({0, 0});
    bands[k] = la::merge_bands(std::move(bands[k]), 2 * margin * two_pi / c.length(k).hi);
    const auto alike = [&](Size j) {
      return c.end(j, 0) == c.end(k, 0) && c.end(j, 1) == c.end(k, 1) &&
             c.axis[j].periodic == c.axis[k].periodic &&
             std::equal(bands[j].begin(), bands[j].end(), bands[k].begin(), bands[k].end(),
                        [](const Band& p, const Band& q) {
                          return p.lower == q.lower && p.upper == q.upper;
                        });
    };
    Size same = 0;
    while (same < k && !alike(same)) ++same;
    a.basis.push_back(same < k
                          ? a.basis[same]
                          : la::make_basis(c.end(k, 0), c.end(k, 1), bands[k], o, c.cache.get()));
  }
  a.bands = std::move(bands);
  require_memory(c, a);
  watch.lap("basis");
  a.solver = BoxSolver(c, a.basis, timings);
  a.field = a.solver.solve(c, rhs, timings);
  Stopwatch residual(timings);
  a.quality = a.solver.measure(c, rhs, a.field);
  residual.lap("residual");
  return a;
}

double difference(const Checked& c, const BoxField& u, const BoxField& v) {
  std::vector<Points> grid;
  for (Size k = 0; k < c.dimension(); ++k)
    grid.push_back(make_nodes(Nodes::gauss, c.end(k, 0), c.end(k, 1), 30));
  const std::vector<int> zero(c.dimension(), 0);
  Doubles a = u.values(grid, zero);
  const Doubles b = v.values(grid, zero);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  const double value = relative(rms_of(a), rms_of(b));
  return std::isnan(value) ? infinity : value;
}

}  // namespace

BoxPlan plan_box(const Checked& c, const RightHandSide& rhs, double tolerance, Timings& timings) {
  const Size d = c.dimension();
  const auto progress = [&](double fraction, const char* phase) {
    if (c.options.progress && !c.options.progress(fraction, phase))
      throw Cancelled("gp_pde::Solver");
  };
  BoxPlan plan;
  const bool given = !c.options.bands.empty() || c.options.kernel == KernelType::matern;
  progress(0.05, "inferring bands");
  Stopwatch watch(timings);
  std::vector<std::vector<Band>> bands(d);
  bool resolved = true;
  for (Size k = 0; k < d; ++k) {
    plan.spectra.push_back(infer_spectrum(c, rhs, k));
    resolved = resolved && plan.spectra[k].resolved;
    if (!c.options.bands.empty())
      bands[k] = c.options.bands[k];
    else if (!given)
      bands[k] = plan.spectra[k].bands;
  }
  const double there = largest_value(c, rhs);
  watch.lap("spectrum");
  // Data that no sampling resolves converge algebraically: more modes than this buy no digit.
  const Size most = std::min<Size>(c.options.max_modes, resolved ? 400 : 80);
  bool reachable = resolved;
  for (Size k = 0; k < d; ++k) {
    const double length = c.length(k).hi;
    if (given || modes_of(bands[k], length) <= static_cast<double>(most)) continue;
    bands[k] = {{0, (static_cast<double>(most) / 2 - 20) * two_pi / length}};
    reachable = false;
  }
  progress(0.2, "solving");
  // A second discretisation: its distance is the error estimate. Where the modes do not suffice, a
  // narrower band tells how far they are; fewer modes of the same band are no basis of it.
  auto second = bands;
  for (Size k = 0; k < d && !reachable; ++k)
    std::ignore = fit_to_modes(second[k], c.length(k).hi, 0.75 * static_cast<double>(most));
  std::array<Attempt, 2> pair;
  two_at_once(c.threads, timings, [&](int i, Timings& t) {
    pair[i] = i == 0 ? attempt(c, rhs, bands, 12, most, t) : attempt(c, rhs, second, 15, most, t);
  });
  progress(0.5, "estimating the error");
  Attempt best = std::move(pair[0]);
  {
    Attempt& check = pair[1];
    plan.error_estimate = difference(c, best.field, check.field);
    if (check.worst() < best.worst() && best.worst() > tolerance) best = std::move(check);
  }
  const auto good = [&] { return best.worst() <= tolerance && plan.error_estimate <= tolerance; };
  for (int round = 0; round < 3 && !good() && !given && reachable; ++round) {
    progress(0.6 + 0.1 * round, "widening the bands");
    std::vector<std::vector<Band>> next = bands;
    for (Size k = 0; k < d; ++k) {
      const double length = c.length(k).hi, bin = two_pi / length;
      if (round == 0) {
        // Solutions of the homogeneous equation decay from the sides at the rate of the other axes'
        // frequencies.
        double square = 0;
        for (Size j = 0; j < d; ++j)
          if (j != k)
            square += std::fabs(c.axis[j].second.hi / c.axis[k].second.hi) * top_of(bands[j]) *
                      top_of(bands[j]);
        next[k].push_back({0, std::max(16 * bin, 4 * std::sqrt(square))});
      } else {
        next[k] = {{0, (round == 1 ? 1.0 : 1.7) * std::max(top_of(bands[k]), 24 * bin)}};
      }
      const double limit = (static_cast<double>(most) / 2 - 20) * bin;
      if (modes_of(next[k], length) > static_cast<double>(most)) next[k] = {{0, limit}};
    }
    Attempt wider = attempt(c, rhs, next, 15, most, timings);
    plan.error_estimate = difference(c, best.field, wider.field);
    bands = std::move(next);
    if (wider.worst() < best.worst()) best = std::move(wider);
  }
  plan.data_seen = best.quality.largest >= 0.5 * there;
  plan.bands = std::move(best.bands);
  plan.basis = std::move(best.basis);
  plan.solver = std::move(best.solver);
  plan.field = std::move(best.field);
  plan.quality = best.quality;
  progress(1, "solved");
  return plan;
}

}  // namespace halfulp::gp_pde::detail
