#include "detail/fourier_basis.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "detail/setup_cache.hpp"
#include "halfulp/kernel/dd_math.hpp"
#include "halfulp/random.hpp"

namespace halfulp::detail {
namespace {

// Square root of the spectral density at frequency w, 1 inside a band.
double root_density(double w, std::span<const gp_pde::Band> bands, double falloff,
                    gp_pde::KernelType kernel) {
  double best = 0;
  for (const auto& band : bands) {
    const double distance = std::max({0.0, band.lower - w, w - band.upper});
    const double z = distance / falloff;  // 1 at the edge of the support
    double value = 0;
    switch (kernel) {
      case gp_pde::KernelType::student_t:
      case gp_pde::KernelType::matern:
        // Student-t with nu = 5, the spectrum of Matern-5/2: S ~ (1 + z^2 / (5 s^2))^-3
        value = z <= 1 ? std::pow(1 + 125 * z * z, -1.5) : 0;
        break;
      default:
        value = z <= 1 ? std::exp(-6.25 * z * z) : 0;  // the edge lies at five deviations
    }
    best = std::max(best, value);
  }
  return best;
}

}  // namespace

FourierBasis::FourierBasis(dd lower, dd upper, std::span<const gp_pde::Band> bands,
                           const BasisOptions& options)
    : centre_((lower + upper) * 0.5), threads_(options.threads) {
  const dd length = upper - lower;
  const dd two_pi = kernel::pi() * 2.0;
  step_ = options.periodic ? two_pi / length : two_pi / (length * options.extension);
  const double falloff = options.margin * two_pi.hi / length.hi;
  std::set<std::ptrdiff_t> near;  // multiples of the step that some band reaches
  for (const auto& band : bands) {
    const auto first =
        static_cast<std::ptrdiff_t>(std::max(0.0, (band.lower - falloff) / step_.hi));
    const auto last = static_cast<std::ptrdiff_t>((band.upper + falloff) / step_.hi);
    for (std::ptrdiff_t j = first; j <= last; ++j) near.insert(near.end(), j);
  }
  Half all;
  for (const std::ptrdiff_t j : near) {
    const double s =
        root_density(step_.hi * static_cast<double>(j), bands, falloff, options.kernel);
    if (s > 0) {
      all.index.push_back(j);
      all.weight.push_back(s);
    }
  }
  const bool has_constant = all.index.front() == 0;
  features_ = 2 * static_cast<std::ptrdiff_t>(all.index.size()) - (has_constant ? 1 : 0);

  // Products of two modes have frequencies to 2 w_max: the rule is exact to rounding from
  // w_max L / 2 nodes on, plus a constant number for the last digits.
  const double largest = step_.hi * static_cast<double>(all.index.back());
  largest_frequency_ = largest;
  auto m = static_cast<std::ptrdiff_t>(0.55 * largest * length.hi) + 80;
  m += m % 2;
  std::vector<dd> half_nodes, half_weights;
  const std::ptrdiff_t enough = 8 * features_ + 200;
  if (options.scattered && m > 20 * enough) {
    // Few functions of high frequency: scattered points determine them as well, if not to the last
    // digit (what the modes leave of one band leaks into another). One point in each
    // of equal parts of the angle, at random, so that no frequency has an alias among the others.
    m = enough + enough % 2;
    const std::ptrdiff_t count = m / 2;
    const dd quarter = kernel::pi() * 0.5;
    const RandomStream random(/*seed=*/20240707);
    for (std::ptrdiff_t i = 0; i < count; ++i) {
      const double t = static_cast<double>(i) + random.uniform(static_cast<std::uint64_t>(i));
      dd s, c;
      sincos(quarter * t / static_cast<double>(count), s, c);
      half_nodes.push_back(s);
      half_weights.push_back(quarter * c / static_cast<double>(count));
    }
  } else {
    gauss_legendre_half(m, half_nodes, half_weights);
  }
  const std::ptrdiff_t half = m / 2;
  const dd radius = length * 0.5;
  std::vector<dd> shifted(half), root_weight(half);
  nodes_.resize(m);
  weights_.resize(m);
  for (std::ptrdiff_t i = 0; i < half; ++i) {
    shifted[i] = half_nodes[i] * radius;
    const dd w = half_weights[i] * radius;
    root_weight[i] = sqrt(w * 2.0);  // both halves of the axis
    nodes_[half + i] = centre_ + shifted[i];
    nodes_[half - 1 - i] = centre_ - shifted[i];
    weights_[half + i] = weights_[half - 1 - i] = w;
  }

  PivotedQr factored[2];
  // The halves are independent, so that two threads share them without waiting for each other.
#pragma omp parallel for schedule(static) num_threads(2) if (threads_ > 1)
  for (int odd = 0; odd < 2; ++odd) {
    Half candidates = all;
    if (odd == 1 && has_constant) {
      candidates.index.erase(candidates.index.begin());
      candidates.weight.erase(candidates.weight.begin());
    }
    const auto n = static_cast<std::ptrdiff_t>(candidates.index.size());
    DdMatrix a(half, n);
    fill(shifted, candidates, odd == 1, 0, a, 0);
    for (std::ptrdiff_t j = 0; j < n; ++j)
      for (std::ptrdiff_t i = 0; i < half; ++i) a.set(i, j, a(i, j) * root_weight[i]);
    // Many more nodes than features: the rank is that of the triangle.
    const bool tall = half > 2 * n;
    BlockQr compressed;
    if (tall) compressed = block_qr(a, 1);
    PivotedQr& f = factored[odd];
    f = pivoted_qr(tall ? std::move(compressed.r) : std::move(a), options.tolerance,
                   options.max_modes / 2, 1);
    if (tall) f.q = multiply(compressed.q, f.q, 1);
    Half& kept = odd == 1 ? odd_ : even_;
    kept.rank = factored[odd].rank;
    kept.r = std::move(factored[odd].r);
    for (const std::ptrdiff_t p : factored[odd].pivots) {
      kept.index.push_back(candidates.index[p]);
      kept.weight.push_back(candidates.weight[p]);
    }
  }
  smallest_pivot_ = std::min(factored[0].smallest_pivot, factored[1].smallest_pivot);

  at_nodes_ = DdMatrix(m, size());
  for (int odd = 0; odd < 2; ++odd) {
    const DdMatrix& q = factored[odd].q;
    const std::ptrdiff_t column = odd == 1 ? even_.rank : 0;
    for (std::ptrdiff_t j = 0; j < q.cols(); ++j)
      for (std::ptrdiff_t i = 0; i < half; ++i) {
        const dd value = q(i, j) / root_weight[i];
        at_nodes_.set(half + i, column + j, value);
        at_nodes_.set(half - 1 - i, column + j, odd == 1 ? -value : value);
      }
  }
  set_projectors();
}

void FourierBasis::put(ByteWriter& out) const {
  out.put(centre_);
  out.put(step_);
  out.put(static_cast<std::int64_t>(features_));
  out.put(smallest_pivot_);
  out.put(largest_frequency_);
  out.put_array(nodes_);
  out.put_array(weights_);
  for (const Half* half : {&even_, &odd_}) {
    out.put(static_cast<std::int64_t>(half->rank));
    out.put_array(half->index);
    out.put_array(half->weight);
    put_matrix(out, half->r);
  }
  put_matrix(out, at_nodes_);
}

FourierBasis::FourierBasis(ByteReader& in, int threads) : threads_(threads) {
  centre_ = in.get<dd>();
  step_ = in.get<dd>();
  features_ = static_cast<std::ptrdiff_t>(in.get<std::int64_t>());
  smallest_pivot_ = in.get<double>();
  largest_frequency_ = in.get<double>();
  nodes_ = in.get_array<dd>();
  weights_ = in.get_array<dd>();
  for (Half* half : {&even_, &odd_}) {
    half->rank = static_cast<std::ptrdiff_t>(in.get<std::int64_t>());
    half->index = in.get_array<std::ptrdiff_t>();
    half->weight = in.get_array<double>();
    half->r = get_matrix(in);
  }
  at_nodes_ = get_matrix(in);
  set_projectors();
}

void FourierBasis::set_projectors() {
  const std::ptrdiff_t half = at_nodes_.rows() / 2;
  for (Half* part : {&even_, &odd_}) {
    const std::ptrdiff_t column = part == &odd_ ? even_.rank : 0;
    part->projector = DdMatrix(part->rank, half);
    for (std::ptrdiff_t j = 0; j < part->rank; ++j)
      for (std::ptrdiff_t i = 0; i < half; ++i)
        part->projector.set(j, i, at_nodes_(half + i, column + j) * weights_[half + i]);
  }
}

DdMatrix FourierBasis::project(const DdMatrix& values) const {
  const std::ptrdiff_t half = values.rows() / 2, n = values.cols();
  DdMatrix out(size(), n), folded(half, n);
  std::ptrdiff_t first = 0;
  for (const bool odd : {false, true}) {
    const Half& part = odd ? odd_ : even_;
    for (std::ptrdiff_t j = 0; j < n; ++j)
      for (std::ptrdiff_t i = 0; i < half; ++i) {
        const dd right = values(half + i, j), left = values(half - 1 - i, j);
        folded.set(i, j, odd ? right - left : right + left);
      }
    const DdMatrix c = multiply(part.projector, folded, threads_);
    for (std::ptrdiff_t j = 0; j < n; ++j) {
      std::copy_n(c.hi(j), part.rank, out.hi(j) + first);
      std::copy_n(c.lo(j), part.rank, out.lo(j) + first);
    }
    first += part.rank;
  }
  return out;
}

void FourierBasis::fill(std::span<const dd> shifted, const Half& half, bool odd, int order,
                        DdMatrix& out, std::ptrdiff_t first_column) const {
  const auto m = static_cast<std::ptrdiff_t>(shifted.size());
  const auto n = static_cast<std::ptrdiff_t>(half.index.size());
  // d^k cos = cos, -sin, -cos, sin; d^k sin = sin, cos, -sin, -cos, times w^k.
  const bool sine = odd != (order % 2 != 0);
  const int sign = odd ? (order % 4 < 2 ? 1 : -1) : (order % 4 == 0 || order % 4 == 3 ? 1 : -1);
  // In increasing frequency, one frequency follows from the last by a rotation; every so often the
  // angle is computed afresh, which keeps the error to a few dozen u^2.
  std::vector<std::ptrdiff_t> sorted(n);
  std::iota(sorted.begin(), sorted.end(), 0);
  std::sort(sorted.begin(), sorted.end(),
            [&](auto a, auto b) { return half.index[a] < half.index[b]; });
  std::vector<dd> factor(n);
  for (std::ptrdiff_t j = 0; j < n; ++j) {
    factor[j] = half.weight[j] * sign;
    for (int k = 0; k < order; ++k) factor[j] *= step_ * static_cast<double>(half.index[j]);
  }
  constexpr std::ptrdiff_t refresh = 16;
  // Points side by side, hi parts before lo parts.
  std::vector<double> unit_sin(2 * m), unit_cos(2 * m), s(2 * m), c(2 * m);
  const auto start = [&](double frequency, std::vector<double>& sine, std::vector<double>& cosine) {
    for (std::ptrdiff_t i = 0; i < m; ++i) {
      dd a, b;
      sincos(step_ * shifted[i] * frequency, a, b);
      sine[i] = a.hi;
      sine[m + i] = a.lo;
      cosine[i] = b.hi;
      cosine[m + i] = b.lo;
    }
  };
  start(1, unit_sin, unit_cos);
  std::ptrdiff_t at = -refresh - 1, since = 0;
  for (const std::ptrdiff_t j : sorted) {
    const std::ptrdiff_t want = half.index[j];
    if (want - at > 2 || since + (want - at) > refresh) {
      start(static_cast<double>(want), s, c);
      at = want;
      since = 0;
    }
    for (; at < want; ++at, ++since)
      rotate(m, unit_sin.data(), unit_cos.data(), s.data(), c.data());
    const std::vector<double>& from = sine ? s : c;
    std::copy_n(from.data(), m, out.hi(first_column + j));
    std::copy_n(from.data() + m, m, out.lo(first_column + j));
    scale(m, factor[j], out.hi(first_column + j), out.lo(first_column + j));
  }
}

DdMatrix FourierBasis::features_at(std::span<const dd> points, int order) const {
  const auto m = static_cast<std::ptrdiff_t>(points.size());
  std::vector<dd> shifted(m);
  for (std::ptrdiff_t i = 0; i < m; ++i) shifted[i] = points[i] - centre_;
  DdMatrix out(m, size());
  fill(shifted, even_, false, order, out, 0);
  fill(shifted, odd_, true, order, out, even_.rank);
  return out;
}

DdMatrix FourierBasis::orthonormalise(DdMatrix features) const {
  const std::ptrdiff_t m = features.rows();
  std::ptrdiff_t column = 0;
  for (const Half* half : {&even_, &odd_}) {
    DdMatrix block(m, half->rank);
    if (half->rank == 0) continue;
    std::copy_n(features.hi(column), m * half->rank, block.hi(0));
    std::copy_n(features.lo(column), m * half->rank, block.lo(0));
    block = solve_right_upper(std::move(block), half->r, threads_);
    std::copy_n(block.hi(0), m * half->rank, features.hi(column));
    std::copy_n(block.lo(0), m * half->rank, features.lo(column));
    column += half->rank;
  }
  return features;
}

DdMatrix FourierBasis::to_features(const DdMatrix& coefficients) const {
  DdMatrix out(coefficients.rows(), coefficients.cols());
  std::ptrdiff_t first = 0;
  for (const Half* half : {&even_, &odd_}) {
    DdMatrix block(half->rank, coefficients.cols());
    for (std::ptrdiff_t j = 0; j < block.cols(); ++j)
      for (std::ptrdiff_t i = 0; i < half->rank; ++i) block.set(i, j, coefficients(first + i, j));
    block = solve_upper(half->r, std::move(block));
    for (std::ptrdiff_t j = 0; j < block.cols(); ++j)
      for (std::ptrdiff_t i = 0; i < half->rank; ++i) out.set(first + i, j, block(i, j));
    first += half->rank;
  }
  return out;
}

}  // namespace halfulp::detail
