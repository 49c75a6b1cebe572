// Device results of every double-double operation against the host's, whose error tests/dd.cpp
// measures with MPFR. No test framework: machines with a GPU may have none.
#include "halfulp/cuda/dd.hpp"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "budget.hpp"
#include "dd_cases.hpp"
#include "device_check.hpp"
#include "halfulp/error.hpp"

namespace cuda = halfulp::cuda;
using halfulp::dd;
using halfulp::DdFunction;

namespace {

template <class Exception>
void check_throws(const std::string& what, const std::function<void()>& call) {
  try {
    call();
  } catch (const Exception&) {
    return;
  } catch (...) {
  }
  check(false, what);
}

std::vector<dd> on_device(DdFunction f, const std::vector<dd>& x, const std::vector<dd>& y) {
  const cuda::buffer<dd> dx{std::span<const dd>(x)}, dy{std::span<const dd>(y)};
  cuda::buffer<dd> out(dx.size());
  cuda::dd_apply(f, dx, dy, out);
  std::vector<dd> result(x.size());
  cuda::copy(out, result);
  cuda::synchronize();
  return result;
}

/// |device - host| must stay within the budget of the device's own error plus the host's: each is
/// at most `limit` away from the exact value.
void check_function(DdFunction f, int count) {
  const std::string row = std::string("dd_") + name(f);
  const double limit = budget(HALFULP_BUDGETS, row, "dd", "cuda");
  double worst = 0;
  dd worst_x, worst_y, worst_host, worst_device;
  unsigned seed = 500 + static_cast<unsigned>(f);
  for (const auto& c : dd_cases::cases()) {
    if (c.f != f) continue;
    const auto a = dd_cases::draw(c, count, seed++);
    const auto device = on_device(f, a.x, a.y);
    for (std::size_t i = 0; i < a.x.size(); ++i) {
      const dd y = a.y.empty() ? dd(0) : a.y[i];
      const dd host = halfulp::apply(f, a.x[i], y);
      const double size = std::fabs(host.hi);
      if (!(size < 0x1p995) || (size < 0x1p-900 && size != 0)) continue;
      const double difference = std::fabs((device[i] - host).hi);
      const double error =
          difference == 0 ? 0
                          : difference / dd_cases::scale(f, host.hi, a.x[i], y) / dd_cases::unit(f);
      if (!(error <= worst))
        worst = error, worst_x = a.x[i], worst_y = y, worst_host = host, worst_device = device[i];
    }
  }
  char line[600];
  std::snprintf(line, sizeof line,
                "%-16s device - host: %.3f units, budget %g; x = %a + %a, y = %a + %a: host "
                "%a + %a, device %a + %a",
                name(f), worst, limit, worst_x.hi, worst_x.lo, worst_y.hi, worst_y.lo,
                worst_host.hi, worst_host.lo, worst_device.hi, worst_device.lo);
  std::printf("%s\n", line);
  check(worst <= 2 * limit, line);
}

bool same_kind(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  if (std::isinf(a) || std::isinf(b)) return a == b;
  if (a == 0 || b == 0) return a == b && std::signbit(a) == std::signbit(b);
  return std::fabs(a - b) <= 1e-14 * std::fabs(b) + 0x1p-1072;
}

/// Special values give on the device what they give on the host.
void check_special(DdFunction f) {
  const double values[] = {0.0, -0.0, HUGE_VAL,  -HUGE_VAL,  std::nan(""), 1,          -1,  0.5,
                           -2,  3,    0x1p-1074, -0x1p-1022, 0x1p900,      -0x1.8p900, 700, -760};
  const bool arithmetic = dd_cases::unit(f) == 0x1p-106;  // NaN depends on the splitting there
  if (arithmetic) return;
  std::vector<dd> x, y;
  for (const double a : values)
    for (const double b : values) {
      x.push_back(a);
      if (is_binary(f)) y.push_back(b);
      if (!is_binary(f)) break;
    }
  const auto device = on_device(f, x, y);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const dd host = halfulp::apply(f, x[i], y.empty() ? dd(0) : y[i]);
    check(same_kind(device[i].hi, host.hi), std::string(name(f)) + '(' + std::to_string(x[i].hi) +
                                                ", " + std::to_string(y.empty() ? 0.0 : y[i].hi) +
                                                "): host " + std::to_string(host.hi) + ", device " +
                                                std::to_string(device[i].hi));
  }
}

/// Every size lands whole: each element is written, none beyond the end.
void check_sizes(bool quick) {
  for (const int n : {0, 1, 31, 32, 33, 1000, 100003}) {
    if (quick && n > 1000) continue;
    std::vector<dd> x(static_cast<std::size_t>(n));
    for (int i = 0; i < n; ++i) x[static_cast<std::size_t>(i)] = i;
    const auto r = on_device(DdFunction::negate, x, {});
    bool good = true;
    for (int i = 0; i < n; ++i) good = good && r[static_cast<std::size_t>(i)] == dd(-i);
    check(good, "negate of " + std::to_string(n) + " elements");
  }
}

void check_errors() {
  cuda::buffer<dd> three(3), two(2);
  check_throws<halfulp::ShapeError>("out of another size",
                                    [&] { cuda::dd_apply(DdFunction::exp, three, {}, two); });
  check_throws<halfulp::ShapeError>("missing y",
                                    [&] { cuda::dd_apply(DdFunction::pow, three, {}, three); });
  check_throws<halfulp::ShapeError>("y too many",
                                    [&] { cuda::dd_apply(DdFunction::exp, three, three, three); });
  check_throws<halfulp::ShapeError>("copy to another size", [&] {
    std::vector<dd> host(2);
    cuda::copy(three, host);
  });
  check_throws<halfulp::DomainError>("negative size", [] { cuda::buffer<dd>(-1); });
  check_throws<halfulp::DeviceError>("more memory than there is",
                                     [] { cuda::buffer<dd>(std::ptrdiff_t{1} << 50); });
  cuda::synchronize();  // the failed allocation leaves no error behind
  cuda::buffer<dd> moved = std::move(three);
  check(moved.size() == 3 && three.size() == 0, "a moved buffer is empty");
}

}  // namespace

int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::strcmp(argv[1], "--quick") == 0;
  try {
    if (cuda::device_count() == 0) {
      std::printf("SKIPPED: no CUDA device, double-double on the device was not tested\n");
      return 77;
    }
    std::printf("device: %s\n", cuda::device_name().c_str());
    for (int k = 0; k < halfulp::dd_function_count; ++k) {
      check_function(static_cast<DdFunction>(k), quick ? 100 : 20000);
      check_special(static_cast<DdFunction>(k));
    }
    check_sizes(quick);
    check_errors();
  } catch (const std::exception& e) {
    std::printf("FAILED: %s\n", e.what());
    return 1;
  }
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
