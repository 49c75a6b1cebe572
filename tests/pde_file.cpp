#include "halfulp/pde_file.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "halfulp/error.hpp"
#include "halfulp/npy.hpp"

namespace pde = halfulp::gp_pde;
using halfulp::Expression;
using halfulp::InputError;

namespace {

const std::string domain = "[domain]\nx = [0, 1]\n";
const std::string square = "[domain]\nx = [0, 1]\ny = [0, 1]\n";
const std::string poisson = "[equation]\nexpr = \"u_xx - f\"\n";
const std::string poisson2 = "[equation]\nexpr = \"u_xx + u_yy - f\"\n";
const std::string forcing = "[forcing]\nf = 1\n";
const std::string sides = "[bc]\n\"x-,x+\" = { type = \"dirichlet\", g = 0 }\n";
const std::string sides2 = "[bc]\n\"x-,x+,y-,y+\" = { type = \"dirichlet\" }\n";
const std::string good = domain + poisson + forcing + sides;
const std::string good2 = square + poisson2 + forcing + sides2;

std::string equation(const std::string& expr) { return "[equation]\nexpr = \"" + expr + "\"\n"; }

/// A folder that lasts as long as this object.
struct Folder {
  std::filesystem::path path;
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "halfulp_XXXXXX").string();
    REQUIRE(mkdtemp(name.data()));
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
};

/// A text that must be refused. @ stands before the byte that the message must point at (and is
/// taken out); without @ the message has no line.
struct Refused {
  std::string text;
  std::string message;  ///< a part of it
};

void check(const std::vector<Refused>& table, const std::filesystem::path& folder = {}) {
  for (const Refused& row : table) {
    std::string text = row.text;
    int line = 0, column = 0;
    if (const auto mark = text.find('@'); mark != std::string::npos) {
      text.erase(mark, 1);
      line = 1 + static_cast<int>(
                     std::count(text.begin(), text.begin() + static_cast<long>(mark), '\n'));
      const auto newline = text.rfind('\n', mark == 0 ? 0 : mark - 1);
      column =
          static_cast<int>(newline == std::string::npos || mark == 0 ? mark + 1 : mark - newline);
    }
    INFO(row.text << "\nexpected: " << line << ':' << column << ": " << row.message);
    try {
      (void)pde::parse_pde_file(text, "case.toml", folder);
      FAIL_CHECK("accepted");
    } catch (const InputError& error) {
      INFO("got: " << error.what());
      CHECK(error.file() == "case.toml");
      CHECK(error.line() == line);
      CHECK(error.column() == column);
      CHECK(error.message().find(row.message) != std::string::npos);
    }
  }
}

double value(const Expression& formula, std::vector<std::string> names, std::vector<double> point) {
  return halfulp::Program<double>(formula, std::move(names))(point);
}

}  // namespace

TEST_CASE("text that is not TOML is refused where it stops being TOML", "[pde_file]") {
  check({
      {"[domain]\nx = [0, 1\n@[equation]\nexpr = \"u_xx\"\n", "not valid TOML"},
      {"[domain]\nx = @zero\n", "not valid TOML"},
      {"[domain]\nx = [0, 1]\nx = @[0, 2]\n", "not valid TOML"},
      {"[domain@\n", "not valid TOML"},
      {"[domain]\n@\xCB\xA4 = [0, 1]\n", "not valid TOML"},
      {"[domain]\nx = \"\"\"\\@\xC3\xB7\"\"\"\n", "not valid TOML"},
      {"# a comment\n[@: value]\n", "not valid TOML: ':' cannot stand here"},
      {std::string(std::size_t{2} << 20, '#'), "at most 1048576"},
      {"[domain]\nx = " + std::string(32, '[') + "@[" + std::string(100, ']'),
       "nested more than 32"},
      {"[a" +
           [] {
             std::string dots;
             for (int i = 0; i < 32; ++i) dots += ".a";
             return dots;
           }() +
           "@.a.a.a]\n",
       "keys are nested more than 32"},
  });
}

TEST_CASE("tables and keys that are unknown, missing or of the wrong type", "[pde_file]") {
  check({
      {"@", "[domain] is missing"},
      {"# nothing@", "[domain] is missing"},
      {poisson + sides + "@", "[domain] is missing"},
      {domain + sides + "@", "[equation] is missing"},
      {good + "[@ouput]\npoints = 3\n", "unknown table 'ouput', did you mean 'output'?"},
      {"@title = \"x\"\n" + good, "unknown table 'title'"},
      {"@domain = 3\n" + poisson, "[domain] must be a table, found an integer"},
      {good + "[[@grid]]\nn = 3\n", "[grid] must be a table, found an array"},
      {good + "[grid]\n@m = 4\n", "unknown key 'm' in [grid] (known: n, nodes)"},
      {good + "[solver]\n@tolerance = 1e-3\n", "unknown key 'tolerance' in [solver]"},
      {good + "[output]\n@point = 7\n", "unknown key 'point' in [output], did you mean 'points'?"},
      {good + "[kernel]\n@kind = 7\n", "unknown key 'kind' in [kernel]"},
      {domain + "[equation]\n@exp = \"u_xx\"\n" + sides,
       "unknown key 'exp' in [equation], did you mean 'expr'?"},
      {domain + "[@equation]\n" + sides, "[equation] has no expr"},
      {domain + "[equation]\nexpr = @3\n" + sides,
       "expr must be a formula in quotes, found an integer"},
      {good + "[grid]\nn = @true\n", "n must be a number or a formula in quotes, found a boolean"},
      {good + "[grid]\nn = @1979-05-27\n", "found a date"},
      {good + "[output]\nfields = @\"u\"\n", "fields must be an array of names, found a string"},
      {good + "[output]\nfields = [@1]\n", "a field must be a name, found an integer"},
      {good + "[output]\nformats = [\"npy\", @\"xls\"]\n",
       "format = 'xls', must be one of npy, vti, csv, h5"},
      {good + "[kernel]\ntype = @\"gausian\"\n", "did you mean 'gaussian'?"},
      {good + "[kernel]\ntype = @3\n", "type must be one of"},
      {good + "[solver]\nmethod = @\"magic\"\n",
       "method = 'magic', must be one of auto, galerkin, collocation"},
      {good + "[solver]\nsetup_precision = @\"single\"\n", "must be one of dd"},
      {good + "[grid]\nnodes = @\"chebychev\"\n", "did you mean 'chebyshev'?"},
  });
}

TEST_CASE("domains and parameters that cannot be", "[pde_file]") {
  const std::string rest = poisson + forcing + sides;
  check({
      {"[@domain]\n" + rest, "[domain] has no dimension"},
      {"[domain]\nx = @3\n" + rest, "dimension x must be [lower, upper], found an integer"},
      {"[domain]\nx = @[0]\n" + rest, "dimension x has 1 bounds"},
      {"[domain]\nx = @[0, 1, 2]\n" + rest, "dimension x has 3 bounds"},
      {"[domain]\nx = @[1, 1]\n" + rest, "= [1, 1], must have lower < upper"},
      {"[domain]\nx = @[\"pi\", 3]\n" + rest, "must have lower < upper"},
      {"[domain]\nx = [0, @inf]\n" + rest, "upper end of x = inf, must be finite"},
      {"[domain]\nx = [@nan, 1]\n" + rest, "lower end of x = nan, must be finite"},
      {"[domain]\nx = [0, @\"1/0\"]\n" + rest, "must be finite"},
      {"[domain]\nx = @[1e15, \"1e15 + 1\"]\n" + rest, "too narrow"},
      {"[domain]\nx = [0, \"@y\"]\n" + rest, "y"},
      {"[domain]\nx = [0, \"2*@\"]\n" + rest, "expected"},
      {"[domain]\n@pi = [0, 1]\n" + rest, "dimension 'pi' has the name of a built-in"},
      {"[domain]\n@\"x y\" = [0, 1]\n" + rest, "dimension 'x y' must be a name"},
      {"[domain]\n@u = [0, 1]\n" + rest, "name kept for the solution"},
      {"[domain]\n@residual = [0, 1]\n" + rest, "name kept for an output field"},
      {domain + equation("u_xx - error") + "[forcing]\n@error = 1\n" + sides,
       "forcing 'error' has a name kept for an output field"},
      {"[domain]\nx = [0, 1]\n@xx = [0, 1]\n" + rest, "make the names of derivatives ambiguous"},
      {"[params]\nx = 3\n[domain]\n@x = [0, 1]\n" + rest,
       "dimension 'x' has the name of a parameter"},
      {"[params]\n@sin = 3\n" + good, "parameter 'sin' has the name of a built-in"},
      {"[params]\n@u_x = 3\n" + good, "name kept for the solution"},
      {"[params]\nk = @[1]\n" + good,
       "parameter k must be a number or a formula in quotes, found an array"},
      {"[params]\nk = \"2*@m\"\n" + good, "m"},
      {"[params]\nk = @\"log(-1)\"\n" + good, "parameter k = nan, must be finite"},
      {"[params]\n@a = \"b + 1\"\nb = \"2*c\"\nc = \"a/2\"\n" + good,
       "in a circle: a -> b -> c -> a"},
      {"[params]\n@a = \"a\"\n" + good, "in a circle: a -> a"},
  });
}

TEST_CASE("equations that cannot be solved say why", "[pde_file]") {
  const auto with = [](const std::string& expr) {
    return domain + equation(expr) + forcing + sides;
  };
  const auto with2 = [](const std::string& expr) {
    return square + equation(expr) + forcing + sides2;
  };
  check({
      {domain + "[equation]\nexpr = @\"u_xx + step(u) - f\"\n" + forcing + sides,
       "must be differentiable in u"},
      {domain + "[equation]\nexpr = @\"u_xx + log(u) - f\"\n" + forcing + sides,
       "must be finite at the guess"},
      {domain + equation("u_xx + u*f") + "[forcing]\n@f = \"auto\"\n[exact]\nu = \"x\"\n" + sides,
       "must be a term of the equation times a constant"},
      {square + "[equation]\nexpr = @\"(x - 0.5)*u_xx + u_yy - f\"\n" + forcing + sides2,
       "must be of one sign"},
      {with("@u_xxxxx - f"),
       "the derivative u_xxxxx has order 5; orders above 4 are not solved yet"},
      {with2("u_xx + @u_xxyyy - f"), "has order 5"},
      {with("u_xx + @u_yy - f"), "'u_yy' is no derivative of u: the dimensions of [domain] are x"},
      {with("u_xx + @v_x - f"), "derivative of 'v', which is no field"},
      {with("u_xx + @g - f"), "unknown name 'g'"},
      {with("u_xx + @ux - f"), "unknown name 'ux', did you mean 'u_x'?"},
      {with("u_xx + @sine(x) - f"), "sin"},
      {with("u_xx - f +@"), "expected"},
      {with("u_xx - (f@"), "expected"},
      {with("@x - f"), "the equation has no u"},
      {with("@"), ""},
      {domain + "[equation]\nexpr = @\"u_xx - u_xx + u - f\"\n" + forcing + sides,
       "no derivative of u"},
      {domain + "[equation]\nexpr = \"@u_xx - u_xx - f\"\n" + forcing + sides,
       "the equation has no u"},
      {domain + "[equation]\nexpr = \"u_xx*f\"\n" + forcing + "[@bc]\n", "x- has no condition"},
      {domain + "[equation]\nexpr = @\"u_xx/0 - f\"\n" + forcing + sides,
       "coefficient of u_xx is not finite"},
      {domain + "[equation]\nexpr = @[\"u_xx\", \"v_xx\"]\n",
       "a system has one key in [equation] for each field"},
      {domain + "[[@equation]]\nexpr = \"u_xx\"\n", "one key a field of a system"},
      {"[domain]\nx = [0, 1]\ny = [0, 1]\nz = [0, 1]\n@t = [0, 1]\n" + poisson,
       "more than three dimensions are not solved yet"},
      {"[domain]\nx = [0, 1]\ny = [0, 1]\nz = [0, 1]\n[equation]\nexpr = @\"u_xx + u_yy - u_zz\"\n"
       "[bc]\n\"x-,x+,y-,y+,z-,z+\" = { type = \"dirichlet\", g = 1 }\n",
       "the equation is not elliptic"},
      {"[domain]\nx = [0, 1]\ny = [0, 1]\nz = [0, 1]\n[equation]\nexpr = @\"u_xx + u_yy + u_zz + "
       "u_z\"\n[bc]\n\"x-,x+,y-,y+,z-,z+\" = { type = \"dirichlet\", g = 1 }\n",
       "the derivative u_z of first order; in three dimensions these are not solved yet"},
      {"[domain]\nx = [0, 1]\ny = [0, 1]\nz = [0, 1]\n[equation]\nexpr = @\"u_xx + u_yy + u_zz - "
       "u^3\"\n[bc]\n\"x-,x+,y-,y+,z-,z+\" = { type = \"dirichlet\", g = 1 }\n",
       "a nonlinear equation; in three dimensions these are not solved yet"},
      {"[domain]\nx = [0, 1]\ny = [0, 1]\nz = [0, 1]\n[equation]\nexpr = @\"u_xx + u_yy + "
       "(1 + x)*u_zz\"\n[bc]\n\"x-,x+,y-,y+,z-,z+\" = { type = \"dirichlet\", g = 1 }\n",
       "the coefficient of u_zz varies; in three dimensions these are not solved yet"},
      {"[domain]\nx = [0, 1]\nxy = [0, 1]\ny = [0, 1]\n@xx = [0, 1]\n" + poisson,
       "more than three dimensions are not solved yet"},
      {good + "[solver]\nprecision = @\"single\"\n", "precision"},
      {good + "[@observations]\n", "[observations] has no u"},
      {good + "[@initial]\n", "[initial] is empty"},
      {good + "[initial]\n@u = 1\n", "side x- has conditions in [bc] as well, line 8"},
      {good + "[initial]\n@v = 1\n", "unknown key 'v' in [initial]"},
      {good + "[initial]\n@u_xxxx = 1\n",
       "initial values are u and its derivatives to third order"},
      {good2 + "[initial]\nu_x = 1\n@u_y = 1\n", "derivatives along more than one dimension"},
      {good2 + "[initial]\n@u_xy = 1\n", "derivatives along more than one dimension"},
      {good2 + "[initial]\n@u = 1\n", "meant for a dimension t"},
      {good + "[@coefficients]\n", "coefficients from arrays are not solved yet"},
      {good + "[solver]\nmethod = \"gp-hm\"\n@max_modes = 100\n", "unknown key 'max_modes'"},
      {good + "[solver]\nsetup_precision = @\"mpfr:200\"\n",
       "setup_precision 'mpfr:200' is not solved yet; use \"dd\""},
      {good + "[solver]\nsetup_precision = @\"double\"\n",
       "setup_precision 'double' is not solved yet; use \"dd\""},
      {good + "[solver]\nmethod = @\"galerkin\"\n", "method 'galerkin' is not for one dimension"},
      {good2 + "[solver]\nmethod = @\"collocation\"\n",
       "method 'collocation' is solved in one dimension only"},
      {good + "[kernel]\ntype = @\"periodic\"\n",
       "kernel 'periodic' needs periodic sides, and side x- is dirichlet"},
      {square + poisson2 + forcing +
           "[bc]\n\"x-,x+\" = { type = \"periodic\" }\n\"y-,y+\" = { type = \"neumann\" }\n"
           "[kernel]\ntype = @\"periodic\"\n",
       "and side y- is neumann"},
      {good + "[kernel]\nrefine = @\"marginal-likelihood\"\n",
       "refine 'marginal-likelihood' is for noisy data"},
      {good + "[kernel]\nwidth = @3\n", "give each band as [lower, upper]"},
      {good + "[output]\nfields = [\"u\", @\"std\"]\n",
       "field 'std' (posterior deviation) needs noisy data"},
      {good + "[output]\nfields = [@\"u_xxxxx\"]\n", "orders above 4 are not solved yet"},
  });
}

TEST_CASE("forcings that do not fit the equation", "[pde_file]") {
  const auto with = [](const std::string& table) { return domain + poisson + table + sides; };
  const std::string exact = "[exact]\nu = \"sin(x)\"\n";
  check({
      {domain + "[equation]\nexpr = \"u_xx - @f\"\n" + sides, "unknown name 'f'"},
      {with("[forcing]\nf = 1\n@q = 2\n"), "forcing 'q' does not occur in the equation"},
      {with("[forcing]\nf = @\"auto\"\n"), "forcing 'f' is \"auto\", which needs [exact] u"},
      {with("[forcing]\nf = @[1, 2]\n"), "forcing f must be a number or a formula in quotes"},
      {with("[forcing]\nf = \"sin(@y)\"\n"), "y"},
      {with("[forcing]\nf = \"sin(@u)\"\n"), "u"},
      {with("[forcing]\nf = @\"1/x\"\n"), "f = inf at x = 0, must be finite"},
      {with("[forcing]\nf = @\"log(x - 0.5)\"\n"), "f = nan at x = 0, must be finite"},
      {with("[forcing]\nf = @nan\n"), "forcing f = nan, must be finite"},
      {domain + "[equation]\nexpr = @\"u_xx - 1/(x - 1)\"\n" + sides, "at x = 1, must be finite"},
      {domain + equation("u_xx - f - q") + exact + "[forcing]\nf = \"auto\"\n@q = \"auto\"\n" +
           sides,
       "only one forcing can be \"auto\""},
      {domain + equation("u_xx - f^2") + exact + "[forcing]\n@f = \"auto\"\n" + sides,
       "a term of the equation times a constant"},
      {domain + equation("u_xx - x*f") + exact + "[forcing]\n@f = \"auto\"\n" + sides,
       "times a constant"},
      {domain + equation("u_xx - 0*f") + exact + "[forcing]\n@f = \"auto\"\n" + sides,
       "times a constant"},
      {with("[exact]\nu = @\"sqrt(x - 0.5)\"\n[forcing]\nf = 1\n"),
       "exact u = nan at x = 0, must be finite"},
      {with("[exact]\nu = \"x^0.5\"\n[forcing]\nf = @\"auto\"\n"), "(made from [exact])"},
      {with("[@exact]\n[forcing]\nf = 1\n"), "[exact] has no u"},
      {with("[exact]\nu = 1\n@v = 2\n[forcing]\nf = 1\n"), "unknown key 'v' in [exact]"},
      {with("[forcing]\nf = { @path = \"f.npy\" }\n"), "unknown key 'path' in forcing f"},
      {with("[forcing]\nf = @{ x = \"x.npy\" }\n"), "forcing f has no file"},
      {with("[forcing]\nf = { file = @3 }\n"), "must be the name of an .npy file"},
  });
}

TEST_CASE("sides that are missing, doubled or ill-posed", "[pde_file]") {
  const auto with = [](const std::string& bc) { return domain + poisson + forcing + bc; };
  const auto with2 = [](const std::string& expr, const std::string& bc) {
    return "[domain]\nx = [0, 1]\nt = [0, 1]\n" + equation(expr) + bc;
  };
  check({
      {domain + "[@equation]\nexpr = \"u_xx - f\"\n" + forcing, "side x- has no condition"},
      {with("[@bc]\n\"x-\" = { type = \"dirichlet\" }\n"),
       "side x+ has no condition: the equation is of second order in x"},
      {with("[bc]\n\"x-\" = { type = \"dirichlet\" }\n@\"x+\" = { type = \"none\" }\n"),
       "side x+ has no condition"},
      {with("[bc]\n@\"x-,z+\" = { type = \"dirichlet\" }\n"),
       "unknown side 'z+' in [bc] (the sides are x-, x+)"},
      {with("[bc]\n@x = { type = \"dirichlet\" }\n"), "unknown side 'x'"},
      {with("[bc]\n@\"x-,\" = { type = \"dirichlet\" }\n"), "unknown side ''"},
      {with("[bc]\n\"x-,x+\" = { type = \"dirichlet\" }\n@\"x+\" = { type = \"neumann\" }\n"),
       "side x+ is given twice, first in line 8"},
      {with("[@bc]\n\"x-\" = [{ type = \"dirichlet\" }, { type = \"neumann\" }, { type = "
            "\"derivative\", order = 1 }]\n"),
       "have 3 conditions: the equation is of order 2 in x"},
      {with("[bc]\n@\"x-\" = []\n"), "an empty array of conditions"},
      {with("[bc]\n\"x-\" = [{ type = \"dirichlet\" }, @{ type = \"none\" }]\n"),
       "side x- is none and has other conditions as well"},
      {with("[bc]\n@\"x-\" = { type = \"derivative\" }\n"), "is derivative and has no order"},
      {with("[bc]\n\"x-\" = { type = \"derivative\", order = @4 }\n"),
       "order = 4, must be an integer from 0 to 3"},
      {with("[bc]\n\"x-\" = { type = \"linear\", coefficients = @[0, 0] }\n"),
       "one to four numbers, not all 0"},
      {with("[bc]\n\"x-\" = { type = \"linear\", coefficients = @1 }\n"),
       "coefficients must be an array of numbers"},
      {with("[bc]\n\"x-\" = { type = \"dirichlet\", order = @1 }\n"),
       "side x- is dirichlet, which has no order"},
      {with("[bc]\n\"x-\" = @\"dirichlet\"\n"),
       "must be a table { type = ..., g = ... }, found a string"},
      {with("[bc]\n@\"x-\" = { g = 1 }\n"), "side x- has no type"},
      {with("[bc]\n\"x-\" = { type = @\"dirichlett\" }\n"), "did you mean 'dirichlet'?"},
      {with("[bc]\n\"x-\" = { type = \"dirichlet\", @value = 1 }\n"),
       "unknown key 'value' in side x-"},
      {with("[bc]\n\"x-\" = { type = \"dirichlet\", a = @1 }\n"),
       "side x- is dirichlet, which has no a"},
      {with("[bc]\n@\"x-\" = { type = \"robin\", a = 1 }\n"), "has no b"},
      {with("[bc]\n@\"x-\" = { type = \"robin\", a = 0, b = 0 }\n"), "a = b = 0"},
      {with("[bc]\n\"x-\" = { type = \"robin\", a = \"@x\", b = 1 }\n"), "x"},
      {with("[bc]\n\"x-\" = { type = \"dirichlet\", g = @\"exact\" }\n"),
       "g is \"exact\", which needs [exact] u"},
      {with("[bc]\n\"x-\" = { type = \"dirichlet\", g = \"cos(@q)\" }\n"), "q"},
      {with("[bc]\n@\"x-\" = { type = \"dirichlet\", g = \"1/x\" }\n\"x+\" = { type = "
            "\"dirichlet\" }\n"),
       "g on side x- = inf at x = 0, must be finite"},
      {with("[bc]\n\"x-\" = { type = \"periodic\", g = @1 }\n"),
       "side x- is periodic, which has no g"},
      {with("[bc]\n@\"x-\" = { type = \"periodic\" }\n\"x+\" = { type = \"dirichlet\" }\n"),
       "side x- is periodic, so side x+ must be periodic too"},
      {with("[bc]\n@\"x-\" = { type = \"periodic\" }\n"), "side x+ must be periodic too"},
      {square + "[equation]\nexpr = \"u_xx - u_yy - f\"\n" + forcing +
           "[bc]\n@\"x-,x+,y-,y+\" = { type = \"dirichlet\" }\n",
       "hyperbolic"},
      {with2("u_tt - u_xx", "[bc]\n@\"x-,x+,t-\" = { type = \"dirichlet\" }\n"),
       "sides t- and t+: 1 condition, must be as many as the order of the equation in t, which is "
       "2"},
      {with2("u_tt - u_xx", "[bc]\n@\"x-,x+,t-,t+\" = { type = \"dirichlet\" }\n"),
       "a hyperbolic equation with conditions on both sides"},
      {with2("u_tt + u_xx",
             "[bc]\n\"x-,x+\" = { type = \"dirichlet\" }\n@\"t-\" = [{ type = \"dirichlet\" }, { "
             "type = "
             "\"neumann\" }]\n"),
       "solutions grow without bound, the faster the higher their frequency in x"},
      {with2("u_tt - u_xx",
             "[bc]\n\"x-,x+\" = { type = \"dirichlet\" }\n@\"t-\" = [{ type = \"neumann\" }, { "
             "type = "
             "\"neumann\" }]\n"),
       "conditions that do not give u and its derivatives"},
      {with2(
           "u_t + u_xxx",
           "[bc]\n\"t-\" = { type = \"dirichlet\" }\n@\"x-\" = [{ type = \"dirichlet\" }, { type = "
           "\"neumann\" }]\n\"x+\" = { type = \"dirichlet\" }\n"),
       "side x-: 2 conditions, must be 1 on x- and 2 on x+"},
      {with2("u_t - u_xxxx",
             "[bc]\n@\"t-\" = { type = \"dirichlet\" }\n\"x-,x+\" = [{ type = \"dirichlet\" }, { "
             "type = "
             "\"neumann\" }]\n"),
       "solutions grow without bound"},
      {with2("u_xt - 1", "[bc]\n\"x-,t+\" = { type = \"dirichlet\" }\n").insert(49, "@"),
       "the mixed derivative u_xt, must be dominated"},
      {with2("u_t + u_x - u_xxt", "[bc]\n\"x-,t-\" = { type = \"dirichlet\" }\n").insert(49, "@"),
       "the mixed derivative u_xxt, must be dominated"},
      {with2("u_xx + u_xt - u_t", "[bc]\n\"x-,x+,t-\" = { type = \"dirichlet\" }\n")
           .insert(49, "@"),
       "the mixed derivative u_xt, must be dominated"},
      {with2("u_xx + 3*u_xt + u_tt", "[bc]\n@\"x-,x+,t-,t+\" = { type = \"dirichlet\" }\n"),
       "a hyperbolic equation with conditions on both sides"},
      {with2("u_t - u_xx",
             "[bc]\n\"x-,x+\" = { type = \"dirichlet\" }\n@\"t-\" = { type = \"neumann\" }\n"),
       "side t- has a condition on du/dn: the equation is of first order in t"},
      {with2("u_t + u_x",
             "[bc]\n@\"x-\" = { type = \"robin\", a = 1, b = 2 }\n\"t-\" = { type = "
             "\"dirichlet\" }\n"),
       "side x- has a condition on du/dn"},
      {square + poisson2 + forcing + "[@bc]\n\"x-,x+,y-\" = { type = \"dirichlet\" }\n",
       "side y+ has no condition"},
      {square + "[equation]\nexpr = \"u_xx - 1\"\n[bc]\n\"x-,x+\" = { type = \"dirichlet\" "
                "}\n@\"y-\" = { type = \"dirichlet\" }\n",
       "no derivative in y"},
      {with2("u_t + u_x", "[@bc]\n\"x-\" = { type = \"dirichlet\" }\n"),
       "u_t needs one on one of the two"},
      {with2("u_t + u_x",
             "[bc]\n\"x-\" = { type = \"dirichlet\" }\n@\"t-,t+\" = { type = \"dirichlet\" }\n"),
       "the equation is of first order in t"},
      {with2("u_t + u_x",
             "[bc]\n\"x+\" = { type = \"dirichlet\" }\n@\"t-\" = { type = \"dirichlet\" }\n"),
       "some characteristics meet both of them"},
      {with2("u_t - u_xx",
             "[bc]\n\"x-,x+\" = { type = \"dirichlet\" }\n@\"t+\" = { type = \"dirichlet\" }\n"),
       "diffusion in x cannot run backward in t; give it on t-"},
      {with2("u_t + u_xx",
             "[bc]\n\"x-,x+\" = { type = \"dirichlet\" }\n@\"t-\" = { type = \"dirichlet\" }\n"),
       "diffusion in x cannot run forward in t; give it on t+"},
      {square + poisson2 + forcing +
           "[bc]\n\"x-,x+,y-\" = { type = \"dirichlet\" }\n@\"y+\" = { type = \"dirichlet\", g = "
           "\"1/(x - 0.5)\" }\n",
       "g on side y+ = inf at x = 0.5, y = 1"},
  });
}

TEST_CASE("sizes are checked before any work", "[pde_file]") {
  check({
      {good + "[grid]\nn = @0\n", "n = 0, must be an integer from 4"},
      {good + "[grid]\nn = @-5\n", "n = -5, must be an integer"},
      {good + "[grid]\nn = @2.5\n", "n = 2.5, must be an integer"},
      {good + "[grid]\nn = \"@x\"\n", "unknown name 'x'"},
      {good + "[grid]\nn = @[10, 10]\n",
       "n has 2 entries, must have one for each of the 1 dimensions"},
      {good2 + "[grid]\nn = [10, @3]\n", "n = 3, must be an integer from 4"},
      {good2 + "[grid]\nn = @[100000, 100000]\n",
       "[grid] n would need 900 GiB of memory, the limit is 8 GiB"},
      {good2 + "[grid]\nn = @1e9\n", "TiB of memory"},
      {good + "[output]\npoints = @1\n", "points = 1, must be an integer from 2"},
      {good2 + "[output]\npoints = @200000\n",
       "[output] points would need 298 GiB of memory, the limit is 8 GiB"},
      {good2 + "[solver]\nmemory = 0.001\n[output]\npoints = @1000\n", "would need 0.00745 GiB"},
      {good + "[solver]\nmemory = @-1\n", "memory = -1 GiB, must be > 0"},
      {good + "[solver]\ntol = @0\n", "tol = 0, must be > 0 and < 1"},
      {good + "[solver]\ntol = @\"1/0\"\n", "must be finite"},
      {good + "[solver]\nthreads = @-1\n", "threads = -1, must be an integer from 0"},
      {good + "[solver]\nmax_modes = @1\n", "max_modes = 1, must be an integer from 8"},
      {good + "[kernel]\nbands = @[]\n", "bands is empty"},
      {good + "[kernel]\nbands = [@3]\n", "a band must be [lower, upper]"},
      {good + "[kernel]\nbands = [[0, 5], @[9, 3]]\n", "band [9, 3], must have 0 <= lower < upper"},
      {good + "[kernel]\nbands = [@[-1, 3]]\n", "must have 0 <= lower < upper"},
      {good + "[kernel]\nbands = @\"manual\"\n", "bands = 'manual', must be one of auto"},
      {good + "[kernel]\nbands = [[0, 9], @[0, 1e300]]\n", "frequency 1e+300 would need"},
      {good2 + "[kernel]\nbands = { y = [@[0, 1e9]], x = [[0, 1]] }\n",
       "frequency 1e+09 would need"},
      {good + "[solver]\nthreads = @1025\n", "threads = 1025, must be an integer from 0 to 1024"},
      {good2 + "[kernel]\nbands = @{ x = [[0, 9]] }\n", "bands has no entry for dimension y"},
      {good2 + "[kernel]\nbands = { x = [[0, 9]], @z = [[0, 9]] }\n", "unknown key 'z' in bands"},
      {good + "[output]\nfields = [@\"error\"]\n", "field 'error' needs [exact] u"},
      {good + "[output]\nfields = [@\"u_yy\"]\n", "unknown field 'u_yy'"},
      {good + "[output]\nfields = [\"u_x\", @\"u_x\"]\n", "field 'u_x' is given twice"},
  });
}

TEST_CASE("positions survive escapes, tabs, UTF-8 and several lines", "[pde_file]") {
  check({
      {domain + "[equation]\nexpr = @\"u_xx + \\u0076_x - f\"\n" + forcing + sides,
       "which is no field"},
      {domain + "[equation]\nexpr = '''u_xx\n  + @u_xxxxx\n  - f'''\n" + forcing + sides,
       "the derivative u_xxxxx"},
      {domain + "[equation]\nexpr = '''\nu_xx\n  + @u_xxxxx\n  - f'''\n" + forcing + sides,
       "the derivative u_xxxxx"},
      {domain + "[equation]\n\texpr\t=\t'u_xx + @u_xxxxx'\n" + sides, "the derivative u_xxxxx"},
      {good + "[kernel]\n\"\xC3\xA4\" = 3 @] # \xC3\xA4\n", "not valid TOML"},
      {"[domain]\r\nx = @[1, 0]\r\n" + poisson, "lower < upper"},
  });
}

TEST_CASE("arrays must fit", "[pde_file]") {
  const Folder folder;
  const auto write = [&](const char* name, std::vector<double> values,
                         std::vector<std::ptrdiff_t> shape) {
    halfulp::write_npy<double>(folder.path / name, values, shape);
  };
  const double nan = std::nan("");
  write("f4.npy", {1, 2, 3, 4}, {4});
  write("f3.npy", {1, 2, 3}, {3});
  write("f1.npy", {1}, {1});
  write("f44.npy", std::vector<double>(16, 1.0), {4, 4});
  write("f43.npy", std::vector<double>(12, 1.0), {4, 3});
  std::vector<double> hole(20, 1.0);
  hole[8] = nan;
  write("f54.npy", hole, {5, 4});
  write("f0.npy", {}, {0});
  write("nan.npy", {1, nan, 3, 4}, {4});
  write("x5.npy", {0, 0.25, 0.5, 0.75, 1}, {5});
  write("x4.npy", {0, 0.25, 0.5, 1}, {4});
  write("down.npy", {0, 0.5, 0.5, 1}, {4});
  write("out.npy", {0, 0.5, 0.75, 1.5}, {4});
  write("near.npy", {0, 0.5, 0.75, 1 + 1e-14}, {4});
  write("part.npy", {0, 0.1, 0.15, 0.19}, {4});
  std::ofstream(folder.path / "text.npy") << "not an array";
  {
    write("cut.npy", {1, 2, 3}, {3});
    std::filesystem::resize_file(folder.path / "cut.npy",
                                 std::filesystem::file_size(folder.path / "cut.npy") - 8);
  }
  const auto with = [](const std::string& f) {
    return domain + poisson + "[forcing]\nf = " + f + "\n" + sides;
  };
  const auto with2 = [](const std::string& f) {
    return square + poisson2 + "[forcing]\nf = " + f + "\n" + sides2;
  };
  check(
      {
          {with("@\"missing.npy\""), "missing.npy"},
          {with("@\"text.npy\""), "text.npy"},
          {with("@\"cut.npy\""), "cut.npy"},
          {with("@\"f44.npy\""), "forcing f has shape (4, 4), must have 1 dimension (x)"},
          {with2("@\"f4.npy\""), "forcing f has shape (4,), must have 2 dimensions (x, y)"},
          {with("@\"f1.npy\""), "must have at least 4 samples along x"},
          {with("@\"f0.npy\""), "must have at least 4 samples along x"},
          {with("@\"nan.npy\""), "forcing f(1,) = nan, must be finite"},
          {with2("@\"f54.npy\""), "forcing f(2, 0) = nan, must be finite"},
          {with("@\"f4.npy\"") + "[grid]\nn = 5\n",
           "forcing f has shape (4,), must be (5,) as [grid] n"},
          {with("{ file = \"f4.npy\", x = @\"x5.npy\" }"), "axis x has shape (5,), must be (4,)"},
          {with("{ file = \"f4.npy\", x = @\"down.npy\" }"), "axis x[2] = 0.5, must increase"},
          {with("{ file = \"f4.npy\", x = @\"out.npy\" }"),
           "axis x[3] = 1.5, must lie in the domain"},
          {with("{ file = \"f4.npy\", x = @\"near.npy\" }"), "must lie in the domain"},
          {with("{ file = \"f4.npy\", x = @\"part.npy\" }"),
           "axis x goes from 0 to 0.19, must reach from one end of the domain to the other"},
          {with2("@\"f43.npy\""), "must have at least 4 samples along y"},
          {with("@\"f3.npy\""), "must have at least 4 samples along x"},
          {with("\"f4.npy\"") + "[output]\nfields = @[\"residual\"]\n",
           "the forcing is known on the points of its array only"},
          {with("\"f4.npy\"") + "[output]\npoints = 5\nfields = @[\"u\", \"f\"]\n",
           "the forcing is known on the points of its array only"},
          {with("{ file = \"f4.npy\", x = @\"none.npy\" }"), "none.npy"},
          {with2("{ file = @\"f44.npy\", x = \"x4.npy\" }"), "has axes for some dimensions only"},
          {domain + equation("u_xx - f*u") + "[forcing]\n@f = \"f4.npy\"\n" + sides,
           "coefficients from arrays are not solved yet"},
          {domain + equation("u_xx - f - q") + "[forcing]\nf = \"f4.npy\"\n@q = \"f4.npy\"\n" +
               sides,
           "a second forcing from an array is not solved yet"},
          {domain + equation("u_xx - f - q") +
               "[exact]\nu = 1\n[forcing]\nf = \"f4.npy\"\n@q = \"auto\"\n" + sides,
           "beside a forcing from an array"},
      },
      folder.path);

  const auto file =
      pde::parse_pde_file(with("{ file = \"f4.npy\", x = \"x4.npy\" }"), "a.toml", folder.path);
  const auto& samples = std::get<pde::GridSamples>(file.problem.forcing);
  CHECK(samples.axes == std::vector<std::vector<double>>{{0, 0.25, 0.5, 1}});
  CHECK(samples.values == std::vector<double>{1, 2, 3, 4});
  const auto uniform = pde::parse_pde_file(with("\"f4.npy\""), "a.toml", folder.path);
  CHECK(std::get<pde::GridSamples>(uniform.problem.forcing).axes[0] ==
        std::vector<double>{0, 1 / 3.0, 2 / 3.0, 1});
  const auto gauss = pde::parse_pde_file(with("\"f4.npy\"") + "[grid]\nnodes = \"gauss\"\n",
                                         "a.toml", folder.path);
  const auto& nodes = std::get<pde::GridSamples>(gauss.problem.forcing).axes[0];
  for (const int sign : {-1, 1}) {  // roots of P_4, DLMF table 3.5.1
    const double root = std::sqrt((3 - sign * 2 * std::sqrt(1.2)) / 7) / 2;
    CHECK(nodes[sign < 0 ? 0 : 1] == Approx(0.5 - root).epsilon(1e-15));
    CHECK(nodes[sign < 0 ? 3 : 2] == Approx(0.5 + root).epsilon(1e-15));
  }
}

TEST_CASE("a file is understood", "[pde_file]") {
  const auto file = pde::parse_pde_file(R"(
[params]
c = "2*k"          # refers to a later one
k = 50
[domain]           # t before a: the order of the file, not of the alphabet
t = ["0", "2*pi"]
a = [0.1, "1 + k"]
[equation]
expr = "u_ta + u_tt + c*u_aa + 3*(u - f) + q*2"
[exact]
u = "sin(t)*a^2"
[forcing]
q = "t*a"
f = "auto"
[bc]
"t-, t+" = { type = "robin", a = "k/2", b = 2, g = "exact" }
"a-" = [{ type = "neumann", g = "t" }]
"a+" = { type = "dirichlet", g = "exact" }
[kernel]
type = "student-t"
bands = { a = [[0, "k"]], t = [[1, 2], [3, 4]] }
refine = "none"
[grid]
n = [40, 30]
nodes = "chebyshev"
[solver]
method = "galerkin"
setup_precision = "dd"
tol = 1e-9
threads = 2
max_modes = 77
memory = 0.5
[output]
points = [20, 10]
fields = ["u_at", "residual", "error", "f", "u"]
formats = ["vti", "npy", "csv"]
)",
                                        "some/folder/case.toml");
  const pde::Problem& problem = file.problem;
  CHECK(problem.name == "case");
  REQUIRE(problem.axes.size() == 2);
  CHECK(problem.axes[0].name == "t");
  CHECK(problem.axes[1].name == "a");
  CHECK(problem.axes[0].upper.hi == 0x1.921fb54442d18p+2);
  CHECK(problem.axes[0].upper.lo == 0x1.1a62633145c07p-52);  // 2 pi to 106 bits
  CHECK(problem.axes[1].lower.hi == 0.1);
  CHECK(problem.axes[1].lower.lo == -0x1.999999999999ap-58);  // 0.1 as written, not its double
  CHECK(problem.axes[1].upper.hi == 51);
  REQUIRE(file.parameters.size() == 2);
  CHECK(file.parameters[0].first == "c");
  CHECK(file.parameters[0].second.hi == 100);
  CHECK(problem.equation.symbols() ==
        std::set<std::string>{"a", "f", "t", "u", "u_aa", "u_ta", "u_tt"});

  REQUIRE(file.terms.size() == 4);
  CHECK(file.terms[0].first == "u_tt");
  CHECK(file.terms[1].first == "u_ta");
  CHECK(file.terms[2].first == "u_aa");
  CHECK(file.terms[2].second.constant().hi == 100);
  CHECK(file.terms[3].first == "u");
  // f = u + (u_ta + u_tt + 100 u_aa + 2 t a)/3 with u = sin(t) a^2
  CHECK(problem.forcing_symbol == "f");
  CHECK(file.forcing_automatic);
  const double t = 0.7, a = 1.3;
  CHECK(value(std::get<Expression>(problem.forcing), {"t", "a"}, {t, a}) ==
        Approx(std::sin(t) * a * a +
               (2 * a * std::cos(t) - std::sin(t) * a * a + 200 * std::sin(t) + 2 * t * a) / 3)
            .epsilon(1e-14));

  const pde::Side& lower = problem.sides[0][0];
  CHECK(lower.kind == pde::SideKind::robin);
  CHECK(lower.a == 25);
  CHECK(lower.b == 2);
  CHECK(lower.g.symbols() == std::set<std::string>{"a"});
  CHECK(value(lower.g, {"a"}, {a}) == Approx(-2 * a * a));  // 25 sin 0 - 2 cos 0 a^2
  CHECK(value(problem.sides[0][1].g, {"a"}, {a}) == Approx(2 * a * a));
  CHECK(problem.sides[1][0].kind == pde::SideKind::neumann);
  CHECK(problem.sides[1][0].g.text() == "t");
  CHECK(value(problem.sides[1][1].g, {"t"}, {t}) == Approx(51 * 51 * std::sin(t)));

  const pde::Options& options = file.options;
  CHECK(options.kernel == pde::KernelType::student_t);
  REQUIRE(options.bands.size() == 2);
  CHECK(options.bands[0].size() == 2);
  CHECK(options.bands[1][0].upper == 50);
  CHECK(options.nodes_per_axis == std::vector<std::ptrdiff_t>{40, 30});
  CHECK(options.nodes == pde::Nodes::chebyshev);
  CHECK(options.method == pde::Method::galerkin);
  CHECK(options.setup_precision == pde::Precision::dd);
  CHECK(options.tolerance == 1e-9);
  CHECK(options.threads == 2);
  CHECK(options.max_modes == 77);
  CHECK(options.memory_limit == std::size_t{1} << 29);

  CHECK(file.output.points == std::vector<std::ptrdiff_t>{20, 10});
  REQUIRE(file.output.fields.size() == 5);
  CHECK(file.output.fields[0].name == "u");
  CHECK(file.output.fields[1].name == "u_ta");
  CHECK(file.output.fields[1].orders == std::vector<int>{1, 1});
  CHECK(file.output.fields[4].kind == pde::FieldKind::forcing);
  CHECK(file.output.formats == std::vector<std::string>{"npy", "vti", "csv"});
  // g = t on a- is not the normal derivative of [exact].
  REQUIRE(file.warnings.size() == 1);
  CHECK(file.warnings[0].find("side a-") != std::string::npos);

  const std::string text = pde::describe(file);
  CHECK(text.find("t in [0, 6.283185307179586], a in [0.1, 51]") != std::string::npos);
  CHECK(text.find("u_tt + u_ta + 100*u_aa + 3*u = ") != std::string::npos);
  CHECK(text.find("0x") == std::string::npos);
}

TEST_CASE("defaults", "[pde_file]") {
  const auto file = pde::parse_pde_file(good2, "dir/two.toml");
  CHECK(file.options.bands.empty());
  CHECK(file.options.nodes_per_axis.empty());
  CHECK(file.options.method == pde::Method::automatic);
  CHECK(file.output.points == std::vector<std::ptrdiff_t>{300, 300});
  REQUIRE(file.output.fields.size() == 1);
  CHECK(file.output.formats == std::vector<std::string>{"npy"});
  CHECK(file.problem.sides[0][0].g.is_zero());
  CHECK_FALSE(file.problem.exact);
  CHECK(file.warnings.empty());
}

TEST_CASE("forcings fold into the equation", "[pde_file]") {
  // c is a coefficient, f multiplies x: neither can stay a symbol; q can.
  const auto file =
      pde::parse_pde_file(domain + equation("c*u_xx + x*f - 2*q") +
                          "[forcing]\nc = \"1 + x\"\nf = \"cos(x)\"\nq = \"exp(x)\"\n" + sides);
  CHECK(file.problem.forcing_symbol == "q");
  CHECK(file.problem.equation.symbols() == std::set<std::string>{"q", "u_xx", "x"});
  REQUIRE(file.terms.size() == 1);
  CHECK(value(file.terms[0].second, {"x"}, {0.5}) == 1.5);
  CHECK(value(file.right_hand_side, {"x", "q"}, {0.5, 3}) == Approx(6 - 0.5 * std::cos(0.5)));

  const auto none = pde::parse_pde_file(domain + equation("u_xx - x") + sides);
  CHECK_FALSE(none.problem.equation.depends_on(none.problem.forcing_symbol));
  CHECK(std::get<Expression>(none.problem.forcing).is_zero());
}

TEST_CASE("a wrong exact solution is told", "[pde_file]") {
  const std::string exact = "[exact]\nu = \"x*(1 - x)\"\n";
  const auto right = pde::parse_pde_file(domain + exact + poisson + "[forcing]\nf = -2\n" + sides);
  CHECK(right.warnings.empty());
  const auto wrong = pde::parse_pde_file(domain + exact + poisson + "[forcing]\nf = -1\n" + sides);
  REQUIRE(wrong.warnings.size() == 1);
  CHECK(wrong.warnings[0].find("[exact] u does not solve the equation") != std::string::npos);
  const auto side = pde::parse_pde_file(domain + exact + poisson + "[forcing]\nf = -2\n" +
                                        "[bc]\n\"x-,x+\" = { type = \"dirichlet\", g = 1 }\n");
  CHECK(side.warnings.size() == 2);
}

TEST_CASE("well-posed first-order and periodic set-ups are taken", "[pde_file]") {
  const std::string box = "[domain]\nx = [0, 1]\nt = [0, 1]\n";
  const std::string inflow = "{ type = \"dirichlet\" }\n";
  for (const std::string& text :
       {box + equation("u_t + 2*u_x - 1") + "[bc]\n\"x-,t-\" = " + inflow,
        box + equation("u_t - 2*u_x - 1") + "[bc]\n\"x+,t-\" = " + inflow,
        box + equation("u_t - 2*u_x - 1") + "[bc]\n\"x-,t+\" = " + inflow,
        box + equation("u_t - 2*u_x - 1") +
            "[bc]\n\"x-,x+\" = { type = \"periodic\" }\n\"t-\" = " + inflow,
        box + equation("u_t - u_xx") + "[bc]\n\"x-,x+,t-\" = " + inflow +
            "\"t+\" = { type = \"none\" }\n",
        box + equation("(2 + x^2)*u_xx + u_xt + u_tt - 1") + "[bc]\n\"x-,x+,t-,t+\" = " + inflow,
        domain + equation("u_x + u") + "[bc]\n\"x+\" = " + inflow,
        domain + equation("u_xx + u - 1") + "[bc]\n\"x-,x+\" = { type = \"neumann\" }\n",
        domain + equation("u_xx - 1") +
            "[bc]\n\"x-\" = { type = \"robin\", a = 1, b = 1 }\n\"x+\" = { type = \"neumann\" "
            "}\n"}) {
    INFO(text);
    CHECK_NOTHROW(pde::parse_pde_file(text));
  }
}

TEST_CASE("systems: what is read", "[pde_file]") {
  const pde::PdeFile file = pde::parse_pde_file(R"toml([domain]
x = [0, 1]
[params]
k = 7
[equation]
v = "v_xx - k*w - f"
w = "2*w_xx + v_x - g - h"
[exact]
w = "x^2"
v = "sin(k*x)"
[forcing]
f = "auto"
g = "auto"
h = "x"
[bc]
"x-" = { type = "dirichlet", g = "exact" }
"x+" = { v = { type = "neumann", g = "exact" }, w = { type = "robin", a = 1, b = 2, g = 5 } }
[output]
fields = ["v_x", "error", "residual_w", "f", "w"]
)toml");
  REQUIRE(file.system);
  const pde::SystemProblem& s = *file.system;
  REQUIRE(s.fields.size() == 2);
  CHECK(s.fields[0].name == "v");
  CHECK(s.fields[1].name == "w");
  CHECK(file.linear);
  CHECK(value(s.forcing.at("f"), {"x"}, {0.5}) == Approx(-49 * std::sin(3.5) - 7 * 0.25));
  CHECK(value(s.forcing.at("g"), {"x"}, {0.5}) == Approx(4 + 7 * std::cos(3.5) - 0.5));
  REQUIRE(s.sides.size() == 4);
  CHECK(s.sides[2].field == "v");
  CHECK(value(s.sides[2].condition.g, {"x"}, {0}) == Approx(7 * std::cos(7.0)));
  CHECK(s.sides[3].condition.b == 2);
  CHECK(file.warnings.empty());
  std::string names;
  for (const auto& field : file.output.fields) names += field.name + " ";
  CHECK(names == "v w v_x error_v error_w residual_w f ");
  CHECK(pde::describe(file).find("w: 2*w_xx + v_x - g - h = 0") != std::string::npos);
  // One field named u is the usual single equation.
  CHECK_FALSE(pde::parse_pde_file(domain + "[equation]\nu = \"u_xx - f\"\n" + forcing + sides)
                  .system.has_value());
}

TEST_CASE("systems: what is refused", "[pde_file]") {
  const std::string two = domain + "[equation]\nu = \"u_xx - v\"\nv = \"v_xx + u\"\n";
  const std::string both = "[bc]\n\"x-,x+\" = { type = \"dirichlet\" }\n";
  CHECK_NOTHROW(pde::parse_pde_file(two + both));
  check({
      {domain + "[equation]\nu = \"u_xx - @w\"\nv = \"v_xx\"\n" + both, "unknown name 'w'"},
      {domain + "[equation]\nu = \"u_xx - @w_x\"\nv = \"v_xx\"\n" + both,
       "which is no field: those are u, v"},
      {domain + "[equation]\nu = \"u_xx - @v_y\"\nv = \"v_xx\"\n" + both, "no derivative of v"},
      {domain + "[equation]\nu = \"u_xx - @v_xxx\"\nv = \"v_xx\"\n" + both, "orders above 2"},
      {domain + "[equation]\nu = \"u_xx - v\"\nv = \"u_x\"\n[@bc]\n" + both.substr(5),
       "4 conditions"},
      {domain + "[equation]\nu = \"u_xx\"\n@v = \"u_x - x\"\n" + both, "v = in no equation"},
      {domain + "[equation]\nu = \"u_xx - v\"\nv = \"@x\"\n" + both,
       "the equation of v has no field"},
      {domain + "[equation]\nu = \"u_xx - v\"\n@u_x = \"u\"\n" + both,
       "kept for the derivatives of u"},
      {domain + "[equation]\nu = \"u_xx - sin\"\n@sin = \"u\"\n" + both, "built-in"},
      {domain + "[equation]\nu = \"u_xx - error\"\n@error = \"u\"\n" + both,
       "kept for an output field"},
      {"[domain]\n@v = [0, 1]\n[equation]\nu = \"u_vv\"\nv = \"u\"\n",
       "dimension 'v' has a name kept for the solution"},
      {two + "[params]\n@v_0 = 1\n" + both, "kept for the solution"},
      {two + "[@bc]\n\"x-\" = { type = \"dirichlet\" }\n", "which is 4"},
      {two + "[bc]\n\"x-\" = { u = { type = \"dirichlet\" }, @w = { type = \"none\" } }\n",
       "unknown field 'w' in side x-"},
      {two + "[bc]\n\"x-,x+\" = { u = { @typ = \"dirichlet\" } }\n", "unknown key 'typ'"},
      {two + "[bc]\n@\"y-\" = { type = \"dirichlet\" }\n", "unknown side 'y-'"},
      {two + "[bc]\n\"x-,x+\" = { type = \"dirichlet\" }\n\"x- \" = { @u = { type = \"none\" } }\n",
       "given twice"},
      {two + both + "[@exact]\nu = \"x\"\n", "[exact] has no v"},
      {two + both + "[exact]\n@w = \"x\"\n", "unknown field 'w' in [exact]"},
      {two + both + "[@grid]\nn = 50\n", "left to the solver"},
      {two + both + "[solver]\nmethod = @\"gp-hm\"\n", "is for a single equation"},
      {two + both + "[solver]\nguess = @\"x\"\n", "a table with the fields' formulas"},
      {two + both + "[solver]\nguess = { @w = \"x\" }\n", "unknown field 'w' in guess"},
      {two + both + "[output]\nfields = [@\"error\"]\n", "needs [exact]"},
      {two + both + "[output]\nfields = [@\"w\"]\n", "unknown field 'w'"},
      {two + both + "[forcing]\n@f = \"x\"\n", "does not occur"},
      {domain + "[equation]\nu = \"u_xx - v - f\"\nv = \"v_xx - f\"\n" + both +
           "[exact]\nu = \"x\"\nv = \"x\"\n[forcing]\nf = @\"auto\"\n",
       "occurs in several equations"},
      {domain + "[equation]\nu = \"u_xx - v - f\"\nv = \"v_xx\"\n" + both +
           "[forcing]\nf = @\"auto\"\n",
       "which needs [exact]"},
      {domain + "[equation]\nu = \"u_xx - v - f\"\nv = \"v_xx\"\n" + both +
           "[forcing]\nf = @\"f.npy\"\n",
       "from an array is not solved yet"},
  });
}

TEST_CASE("every shipped input is read", "[pde_file]") {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(HALFULP_INPUTS)) {
    if (entry.path().extension() != ".toml") continue;
    INFO(entry.path());
    ++count;
    const auto file = pde::read_pde_file(entry.path());
    CHECK(file.warnings.empty());
    CHECK(file.problem.name == entry.path().stem());
    CHECK_FALSE(pde::describe(file).empty());
  }
  CHECK(count >= 20);
}

TEST_CASE("files that cannot be read", "[pde_file]") {
  const Folder folder;
  CHECK_THROWS_AS(pde::read_pde_file(folder.path / "none.toml"), halfulp::IoError);
  CHECK_THROWS_AS(pde::read_pde_file(folder.path), halfulp::IoError);
}

TEST_CASE("numbers out of range and odd strings do no harm", "[pde_file]") {
  // Each must be refused with an Error or read, never crash.
  for (const std::string& text :
       {good + "[grid]\nn = 9223372036854775807\n", good + "[grid]\nn = 1e300\n",
        good + "[solver]\nmemory = 1e300\n", good + "[solver]\ntol = 1e-320\n",
        domain + equation(std::string(60000, '-') + "u_xx") + sides,
        domain + equation(std::string(300, '(') + "u_xx" + std::string(300, ')')) + sides,
        std::string("[domain]\nx = [0, 1]\0", 20), std::string("\xFF\xFE[domain]"),
        domain + equation("u_xx - f") + "[forcing]\nf = \"\\u0000.npy\"\n" + sides,
        std::string("D = 09\0.\0'i\0\xCF\x80\0 ", 15),
        domain + equation("u_xx - f") + "[forcing]\nf = \"/.npy\"\n" + sides}) {
    try {
      (void)pde::parse_pde_file(text);
    } catch (const halfulp::Error&) {
    }
  }
  SUCCEED();
}

TEST_CASE("a formula too long to be written is cut where it is shown", "[pde_file]") {
  // Its second derivative has more than 10^6 nodes, counted as a tree.
  std::string product = "sin(x)";
  for (int i = 0; i < 1200; ++i) product += "*sin(x + 1)";
  const auto file = pde::parse_pde_file(
      domain + poisson + "[exact]\nu = \"" + product + "\"\n[forcing]\nf = \"auto\"\n" +
      "[bc]\n\"x-,x+\" = { type = \"neumann\", g = \"exact\" }\n");
  const auto& f = std::get<Expression>(file.problem.forcing);
  CHECK_THROWS_AS(f.text(), halfulp::DomainError);
  CHECK(f.brief_text(50).size() == 53);
  CHECK(f.brief_text(50).ends_with("..."));
  const std::string described = pde::describe(file);
  CHECK(described.find("...") != std::string::npos);
  CHECK(described.size() < 5000);
}

TEST_CASE("nonlinear equations and variable coefficients", "[pde_file]") {
  const pde::PdeFile allen_cahn =
      pde::parse_pde_file(domain + equation("u_xx + u*(u^2 - 1) - f") + forcing + sides +
                          "[solver]\nguess = \"sin(pi*x)\"\nnewton = 7\n");
  CHECK_FALSE(allen_cahn.linear);
  CHECK(allen_cahn.terms.empty());
  CHECK(allen_cahn.options.max_newton == 7);
  REQUIRE(allen_cahn.options.guess);
  CHECK(value(*allen_cahn.options.guess, {"x"}, {0.5}) == 1);
  CHECK(pde::describe(allen_cahn).find("nonlinear") != std::string::npos);
  const pde::PdeFile variable =
      pde::parse_pde_file(square + equation("(1 + x)*u_xx + u_yy - f") + forcing + sides2);
  CHECK(variable.linear);
  CHECK(value(variable.terms.front().second, {"x", "y"}, {0.5, 0.5}) == 1.5);
  // Thousands of terms are read in no time.
  std::string sum = "u_xx";
  for (int i = 0; i < 30000; ++i) sum += "+u";
  CHECK(pde::parse_pde_file(domain + equation(sum) + sides).terms.size() == 2);
  CHECK_FALSE(pde::parse_pde_file(domain + equation(sum + "+u*u") + sides).linear);
}
