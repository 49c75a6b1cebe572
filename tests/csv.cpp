#include "halfulp/csv.hpp"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "halfulp/error.hpp"
#include "scratch.hpp"

using namespace halfulp;
using Catch::Matchers::Contains;

namespace {

using Columns = std::vector<std::vector<double>>;
using Names = std::vector<std::string>;

Table parse(std::string_view text, const CsvReadOptions& options = {}) {
  return parse_csv(text, "t.csv", options);
}

struct Refused {
  const char* text;
  int line, column;
  const char* message;
};

}  // namespace

TEST_CASE("separators are detected from the header", "[csv]") {
  for (const char* text :
       {"x,y\n1,2\n3,4\n", "x;y\n1;2\n3;4\n", "x\ty\n1\t2\n3\t4\n", "x , y\r\n 1,2 \r\n3 ,4",
        "\"x\",\"y\"\n1,\"2\"\n3,4\n", "\xEF\xBB\xBFx,y\n1,2\n3,4",
        "# made by hand\n\n  \nx,y # names\n1,2#\n3,4\n", "x\t y\n 1\t2 \n3\t4 # last\n"}) {
    INFO(text);
    const Table table = parse(text);
    CHECK(table.names == Names{"x", "y"});
    CHECK(table.columns == Columns{{1, 3}, {2, 4}});
    CHECK(table.rows() == 2);
  }
  CHECK(parse("\"a,b\";c\n1;2\n").names == Names{"a,b", "c"});
  CHECK(parse("f(x,y);c\n1;2\n").names == Names{"f(x,y)", "c"});
  CHECK(parse("a,b\n", {.separator = ';'}).names == Names{"a,b"});
}

TEST_CASE("numbers: decimal, hex, nan, inf", "[csv]") {
  const double inf = std::numeric_limits<double>::infinity();
  const auto values =
      parse("x\n0x1.8p+3\n-0X1P-1074\n+1.5E3\n.5\n5.\n-inf\nInfinity\nNaN\n-0\n1e-400\n")
          .columns[0];
  CHECK(values[0] == 12);
  CHECK(values[1] == -std::numeric_limits<double>::denorm_min());
  CHECK(values[2] == 1500);
  CHECK(values[3] == 0.5);
  CHECK(values[4] == 5);
  CHECK(values[5] == -inf);
  CHECK(values[6] == inf);
  CHECK(std::isnan(values[7]));
  CHECK((values[8] == 0 && std::signbit(values[8])));
  CHECK(values[9] == 0);
}

TEST_CASE("headers: empty table, no header, numeric names", "[csv]") {
  CHECK(parse("x,y").rows() == 0);
  CHECK(parse("1,2\n3,4", {.header = CsvHeader::absent}).names == Names{"c0", "c1"});
  CHECK(parse("1,2\n3,4", {.header = CsvHeader::absent}).columns == Columns{{1, 3}, {2, 4}});
  CHECK(parse("\"1\",\"2\"\n3,4").names == Names{"1", "2"});
  CHECK(parse("\"say \"\"x\"\"\",y\n3,4").names == Names{"say \"x\"", "y"});
  const Table table = parse("x,y\n1,2");
  CHECK(table.column("y") == std::vector<double>{2});
  CHECK(message_of<DomainError>([&] { (void)table.column("z"); }) ==
        "halfulp::Table::column: name = z, must be one of: x, y");
}

TEST_CASE("bad cells are told with line and column", "[csv]") {
  const std::vector<Refused> cases{
      {"", 0, 0, "no header line"},
      {"# only\n\n", 0, 0, "no header line"},
      {"1,2\n3,4\n", 1, 1, "found the number '1', expected a header line"},
      {"x,y\n1,abc\n", 2, 3, "found 'abc', expected a number"},
      {"x,y\n# note\r\n\r\n1,  a b # why\n", 4, 5, "found 'a b', expected a number"},
      {"x,y\n1,\n", 2, 3, "empty cell, expected a number"},
      {"x,y\n,1\n", 2, 1, "empty cell"},
      {"x,y\n1\n", 2, 2, "row of 1 cells, expected 2 as in line 1"},
      {"x,y\n1,2,3\n", 2, 5, "row of 3 cells, expected 2 as in line 1"},
      {"x,y\n1,2,\n", 2, 5, "row of 3 cells"},
      {"x;y\n1;2,5\n", 2, 3, "found '2,5', expected a number (with a decimal point, not a comma)"},
      {"x\n1 2\n", 2, 1, "found '1 2'"},
      {"x\n1.2.3\n", 2, 1, "found '1.2.3'"},
      {"x\n--1\n", 2, 1, "found '--1'"},
      {"x\n+-1\n", 2, 1, "found '+-1'"},
      {"x\n0x\n", 2, 1, "found '0x'"},
      {"x\n0x-1\n", 2, 1, "found '0x-1'"},
      {"x\n1e\n", 2, 1, "found '1e'"},
      {"x\n.\n", 2, 1, "found '.'"},
      {"x\nnan(1)\n", 2, 1, "found 'nan(1)'"},
      {"x\n1e999\n", 2, 1, "'1e999' is beyond the range of a double"},
      {"x,y\n1,-0x1p1024\n", 2, 3, "'-0x1p1024' is beyond the range"},
      {"x,y\n1,2\n\"3,4\n", 3, 1, "a quoted cell without its closing quote"},
      {"x,y\n\"1\" 2,3\n", 2, 5, "found '2' after a quoted cell, expected ',' or the end"},
      {"x,y\n1,2\"3\n", 2, 4, "a quote inside a cell"},
      {"x,x\n", 1, 3, "column name 'x' twice"},
      {"x,,z\n", 1, 3, "empty column name"},
      {"x,a\x01z\n", 1, 3, "column name 'a\\x01z' holds a control byte"},
      {"x\n1\r2\n", 2, 1, "found '1\\x0D2'"},
      {"x\n\xFF\xC3\n", 2, 1, "found '\\xFF\\xC3'"},
      {"\xFF\xFEx\n", 1, 1, "UTF-16 text, expected UTF-8"},
      {"x\ty\n1\t\n", 2, 3, "empty cell"},
  };
  for (const Refused& c : cases) {
    INFO(c.text);
    try {
      (void)parse(c.text);
      FAIL_CHECK("accepted");
    } catch (const InputError& error) {
      CHECK(error.line() == c.line);
      CHECK(error.column() == c.column);
      CHECK_THAT(error.message(), Contains(c.message));
      CHECK(error.file() == "t.csv");
    }
  }
  const std::string zero("x\n1\0\n", 5);
  CHECK_THAT(message_of<InputError>([&] { (void)parse(zero); }), Contains("found '1\\x00'"));
  CHECK(message_of<InputError>([] { (void)parse("x,y\n1, abc # why\n"); }) ==
        "t.csv:2:4: found 'abc', expected a number\n  1, abc # why\n     ^");
}

TEST_CASE("tables come back with the same bits", "[csv]") {
  const Scratch scratch;
  std::mt19937_64 random(7);
  Table table{{"x", "a;b", "say \"y\"", " # ", "nan", "\xC3\xA9"}, Columns(6)};
  for (auto& column : table.columns)
    for (int i = 0; i < 2000; ++i) {
      const double value = std::bit_cast<double>(random());
      column.push_back(std::isnan(value) ? std::nan("") : value);
    }
  table.columns[0][0] = std::numeric_limits<double>::infinity();
  table.columns[1][0] = -0.0;
  table.columns[2][0] = std::numeric_limits<double>::denorm_min();
  table.columns[3][0] = std::numeric_limits<double>::max();
  for (const char separator : {',', ';', '\t'})
    for (const bool hex : {false, true}) {
      write_csv(scratch / "t.csv", table, {.separator = separator, .hex = hex});
      const Table back = read_csv(scratch / "t.csv");
      REQUIRE(back.names == table.names);
      for (std::size_t k = 0; k < table.columns.size(); ++k)
        REQUIRE(std::memcmp(back.columns[k].data(), table.columns[k].data(), 16000) == 0);
    }
  CHECK(csv_text({{"x", "y"}, {{0.1, 12}, {-0.0, std::nan("")}}}) == "x,y\n0.1,-0\n12,nan\n");
  CHECK(csv_text({{"x"}, {{12}}}, {.hex = true}) == "x\n0x1.8p+3\n");
  CHECK(csv_text({{"1", "2"}, {{}, {}}}) == "\"1\",\"2\"\n");
  CHECK(csv_text({{"1", "b"}, {{}, {}}}) == "1,b\n");
  // found by the fuzzer: names that begin like a byte order mark
  for (const char* name : {"\xEF\xBB\xBFx", "\xFF\xFEx", "\xFE\xFF"})
    CHECK(parse(csv_text({{name}, {{}}})).names == Names{name});
}

TEST_CASE("tables that cannot be written are refused", "[csv]") {
  const Scratch scratch;
  CHECK(message_of<DomainError>([] { (void)csv_text({}); }) ==
        "halfulp::csv_text: table.names.size() = 0, must be >= 1");
  CHECK_THROWS_AS(csv_text({{"x"}, {}}), ShapeError);
  CHECK(message_of<ShapeError>([] {
          (void)csv_text({{"x", "y"}, {{1}, {}}});
        }) == "halfulp::csv_text: table.columns[1].size() = 0, must be 1");
  CHECK_THROWS_AS(csv_text({{""}, {{1}}}), DomainError);
  CHECK_THROWS_AS(csv_text({{"a\nb"}, {{1}}}), DomainError);
  CHECK_THROWS_AS(csv_text({{"a", "a"}, {{1}, {1}}}), DomainError);
  CHECK_THROWS_AS(csv_text({{"a"}, {{1}}}, {.separator = 'x'}), DomainError);
  CHECK_THROWS_AS(parse("a", {.separator = '#'}), DomainError);
  CHECK_THROWS_AS(write_csv(scratch / "no" / "t.csv", {{"x"}, {{1}}}), IoError);
  put(scratch / "t.csv", "x\n1\n");
  CHECK_THAT(message_of<IoError>([&] { (void)read_csv(scratch / "t.csv", {.size_limit = 3}); }),
             Contains("t.csv: has 4 bytes, must be at most 3"));
}

TEST_CASE("random damage gives InputError or a table", "[csv]") {
  const unsigned seed = 4711;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const std::string whole = "# t\n\"x\",y;z\n1.5,0x1p3\nnan,-inf\r\n1e-3,\"7\"\n";
  int refused = 0;
  for (int trial = 0; trial < 10000; ++trial) {
    std::string damaged = whole;
    for (int flip = 0; flip <= static_cast<int>(random() % 3); ++flip)
      damaged[random() % damaged.size()] ^= static_cast<char>(1 << random() % 8);
    try {
      const Table table = parse(damaged);
      for (const auto& column : table.columns) REQUIRE(std::ssize(column) == table.rows());
    } catch (const InputError&) {
      ++refused;
    }
  }
  CHECK(refused > 1000);
}
