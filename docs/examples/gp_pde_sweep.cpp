// A PDE file as a template: one parameter takes several values.
#include <cstdio>
#include <halfulp/pde_file.hpp>
#include <halfulp/pde_output.hpp>
#include <string>

int main() {
  using namespace halfulp;
  const std::string text = R"toml([domain]
x = [0, 1]
y = [0, 1]
[params]
k = @
[equation]
expr = "u_xx + u_yy + k^2*u - f"
[exact]
u = "sin(k*x)*exp(y)"
[forcing]
f = "auto"
[bc]
"x-,x+,y-,y+" = { type = "dirichlet", g = "exact" }
[output]
points = 100
)toml";
  bool all = true;
  for (const double k : {5.0, 20.0, 80.0}) {
    std::string one = text;  // or: read_file("helmholtz.toml", 1 << 20)
    one.replace(one.find('@'), 1, std::to_string(k));
    const gp_pde::PdeFile file = gp_pde::parse_pde_file(one, "helmholtz");
    const gp_pde::Solution u = gp_pde::solve(file.problem, file.options);
    const gp_pde::Output output = gp_pde::evaluate(file, gp_pde::sampler_of(u));
    std::printf("k = %4.0f: error %.1e, estimated %.1e, %td x %td modes\n", k,
                output.error->relative_l2, u.error_estimate, u.axes[0].modes, u.axes[1].modes);
    all = all && u.report.ok() && output.error->relative_l2 <= u.error_estimate;
  }
  return all ? 0 : 3;
}
