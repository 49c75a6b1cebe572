#include "halfulp/npy.hpp"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "halfulp/error.hpp"
#include "scratch.hpp"

using namespace halfulp;
using Catch::Matchers::Contains;

namespace {

/// A file made by hand: magic, version, header (padded by the caller or not), data.
std::string npy(std::string header, std::string_view data, int version = 1) {
  std::string out = "\x93NUMPY";
  out += static_cast<char>(version);
  out += '\0';
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i)
    out += static_cast<char>(header.size() >> 8 * i & 0xFF);
  return out + header + std::string(data);
}

std::string dict(const std::string& descr, const std::string& shape,
                 const std::string& order = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}

std::string hex(std::string_view digits) {
  std::string out;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
    out += static_cast<char>(std::stoi(std::string(digits.substr(i, 2)), nullptr, 16));
  return out;
}

template <class T = double>
std::string refusal(const std::string& bytes, const NpyReadOptions& options = {}) {
  return message_of<IoError>([&] { (void)parse_npy<T>(bytes, "a.npy", options); });
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class T>
std::vector<T> random_bits(std::size_t count, unsigned seed) {
  std::mt19937_64 random(seed);
  std::vector<T> values(count);
  for (auto& value : values) {
    const std::uint64_t bits = random();
    std::memcpy(&value, &bits, sizeof value);
  }
  return values;
}

using Shape = std::vector<std::ptrdiff_t>;

}  // namespace

TEST_CASE("a file written by NumPy reads as NumPy meant it", "[npy]") {
  // numpy.save of array([[1., 2., 3.], [4., 5., 6.]]), byte by byte
  std::string header = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }";
  header += std::string(118 - header.size() - 1, ' ') + '\n';
  const std::string file = npy(header, hex("000000000000f03f00000000000000400000000000000840"
                                           "000000000000104000000000000014400000000000001840"));
  REQUIRE(file.size() == 128 + 48);
  const auto array = parse_npy<double>(file, "a.npy");
  CHECK(array.shape == Shape{2, 3});
  CHECK(array.values == std::vector<double>{1, 2, 3, 4, 5, 6});
}

TEST_CASE("known bytes of every type and byte order", "[npy]") {
  CHECK(parse_npy<float>(npy(dict("<f4", "(2,)"), hex("0000c03f000020c1")), "a").values ==
        std::vector<float>{1.5f, -10});
  CHECK(parse_npy<float>(npy(dict(">f4", "(2,)"), hex("3fc00000c1200000")), "a").values ==
        std::vector<float>{1.5f, -10});
  CHECK(parse_npy<double>(npy(dict(">f8", "(1,)"), hex("c008000000000000")), "a").values ==
        std::vector<double>{-3});
  CHECK(parse_npy<std::int32_t>(npy(dict("<i4", "(2,)"), hex("feffffff00000080")), "a").values ==
        std::vector<std::int32_t>{-2, std::numeric_limits<std::int32_t>::min()});
  CHECK(parse_npy<std::int32_t>(npy(dict(">i4", "(1,)"), hex("00010203")), "a").values ==
        std::vector<std::int32_t>{0x00010203});
  CHECK(parse_npy<std::int64_t>(npy(dict("<i8", "(1,)"), hex("0807060504030201")), "a").values ==
        std::vector<std::int64_t>{0x0102030405060708});
  CHECK(parse_npy<std::int64_t>(npy(dict(">i8", "(1,)"), hex("fffffffffffffff0")), "a").values ==
        std::vector<std::int64_t>{-16});
}

TEST_CASE("formats 1.0, 2.0 and 3.0, and every way Python may write the header", "[npy]") {
  const std::string data = hex("0000000000000840");
  for (const int version : {1, 2, 3})
    CHECK(parse_npy<double>(npy(dict("<f8", "(1,)"), data, version), "a").values[0] == 3);
  for (const char* header : {"{\"shape\":(1,),\"fortran_order\":True,\"descr\":\"<f8\"}",
                             " {'descr' : '<f8' ,\t'fortran_order':False,'shape': ( 1 , ) } \n",
                             "{'descr': '<f8', 'fortran_order': False, 'shape': (1L,)}",
                             "{'descr': '<f8', 'fortran_order': False, 'shape': ()}",
                             "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1,), }"}) {
    INFO(header);
    CHECK(parse_npy<double>(npy(header, data), "a").values == std::vector<double>{3});
  }
}

TEST_CASE("Fortran order comes back as C order unless asked", "[npy]") {
  // element (i, j, k) of shape (2, 3, 4) is 100 i + 10 j + k
  const Shape shape{2, 3, 4};
  std::vector<double> c, fortran;
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 3; ++j)
      for (int k = 0; k < 4; ++k) c.push_back(100 * i + 10 * j + k);
  for (int k = 0; k < 4; ++k)
    for (int j = 0; j < 3; ++j)
      for (int i = 0; i < 2; ++i) fortran.push_back(100 * i + 10 * j + k);
  const Scratch scratch;
  write_npy<double>(scratch / "f.npy", fortran, shape, {.order = Order::fortran});
  write_npy<double>(scratch / "c.npy", c, shape);
  CHECK(read_npy_header(scratch / "f.npy").order == Order::fortran);
  for (const char* file : {"f.npy", "c.npy"}) {
    CHECK(read_npy<double>(scratch / file).values == c);
    const auto asked = read_npy<double>(scratch / file, {.order = Order::fortran});
    CHECK(asked.values == fortran);
    CHECK(asked.shape == shape);
  }
}

TEMPLATE_TEST_CASE("round trips keep every bit", "[npy]", float, double, std::int32_t,
                   std::int64_t) {
  const Scratch scratch;
  const auto path = scratch / "a.npy";
  unsigned seed = 1;
  for (const Shape& shape : {Shape{}, Shape{0}, Shape{1}, Shape{7}, Shape{3, 5}, Shape{5, 0, 3},
                             Shape{2, 3, 4, 5}, Shape(9, 2), Shape(64, 1), Shape{70001, 2}})
    for (const int version : {1, 2, 3})
      for (const Order order : {Order::c, Order::fortran}) {
        const auto size =
            std::accumulate(shape.begin(), shape.end(), std::ptrdiff_t{1}, std::multiplies<>());
        const auto values = random_bits<TestType>(static_cast<std::size_t>(size), ++seed);
        write_npy<TestType>(path, values, shape, {.order = order, .version = version});
        const auto back = read_npy<TestType>(path, {.order = order});
        INFO("rank " << shape.size() << " version " << version);
        REQUIRE(back.shape == shape);
        REQUIRE(same_bits(back.values, values));
        const NpyHeader header = read_npy_header(path);
        CHECK(header.version == version);
        CHECK(header.order == order);
        CHECK(header.size == size);
        CHECK(header.data_offset % 64 == 0);
        // C -> Fortran -> C is the identity
        const Order other = order == Order::c ? Order::fortran : Order::c;
        const auto turned = read_npy<TestType>(path, {.order = other});
        write_npy<TestType>(path, turned.values, shape, {.order = other});
        REQUIRE(same_bits(read_npy<TestType>(path, {.order = order}).values, values));
      }
}

TEST_CASE("byte order round trip", "[npy]") {
  const auto values = random_bits<double>(1000, 5);
  std::string data(reinterpret_cast<const char*>(values.data()), 8000);
  for (std::size_t i = 0; i < data.size(); i += 8)
    std::reverse(data.begin() + static_cast<std::ptrdiff_t>(i),
                 data.begin() + static_cast<std::ptrdiff_t>(i) + 8);
  CHECK(same_bits(parse_npy<double>(npy(dict(">f8", "(10, 100)"), data), "a").values, values));
}

TEST_CASE("every float16", "[npy]") {
  std::string little, big;
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const char low = static_cast<char>(bits & 0xff), high = static_cast<char>(bits >> 8);
    little += {low, high};
    big += {high, low};
  }
  const auto values = parse_npy<double>(npy(dict("<f2", "(256, 256)"), little), "a").values;
  for (int bits = 0; bits < 65536; ++bits) {
    const double value = values[static_cast<std::size_t>(bits)];
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double magnitude = exponent == 0   ? std::ldexp(fraction, -24)
                             : exponent < 31 ? std::ldexp(1024 + fraction, exponent - 25)
                             : fraction == 0 ? std::numeric_limits<double>::infinity()
                                             : std::numeric_limits<double>::quiet_NaN();
    INFO(bits);
    REQUIRE(std::signbit(value) == (bits >= 32768));
    REQUIRE((std::fabs(value) == magnitude || (std::isnan(value) && std::isnan(magnitude))));
  }
  CHECK(same_bits(parse_npy<double>(npy(dict(">f2", "(65536,)"), big), "a").values, values));
  const auto floats = parse_npy<float>(npy(dict("<f2", "(65536,)"), little), "a").values;
  CHECK(std::equal(floats.begin(), floats.begin() + 0x7c01, values.begin()));
  CHECK_THAT(refusal(npy(dict("<f2", "(2,)"), "123")), Contains("truncated by 1 bytes"));
}

TEST_CASE("another type is taken where every value is exact, else refused", "[npy]") {
  const Scratch scratch;
  const auto path = scratch / "a.npy";
  write_npy<std::int64_t>(path, std::vector<std::int64_t>{1, -(std::int64_t{1} << 53)}, {2});
  CHECK(read_npy<double>(path).values == std::vector<double>{1, -0x1p53});
  CHECK(read_npy<float>(path).values == std::vector<float>{1, -0x1p53f});
  CHECK_THAT(message_of<IoError>([&] { (void)read_npy<std::int32_t>(path); }),
             Contains("a.npy: element 1 = -9007199254740992 is not exact in int32"));
  write_npy<std::int64_t>(path, std::vector<std::int64_t>{0, (std::int64_t{1} << 53) + 1}, {2});
  CHECK_THAT(message_of<IoError>([&] { (void)read_npy<double>(path); }),
             Contains("element 1 = 9007199254740993 is not exact in float64"));
  write_npy<std::int64_t>(path, std::vector<std::int64_t>{std::numeric_limits<std::int64_t>::max()},
                          {1});
  CHECK_THAT(message_of<IoError>([&] { (void)read_npy<double>(path); }), Contains("not exact"));
  write_npy<std::int64_t>(path, std::vector<std::int64_t>{std::numeric_limits<std::int64_t>::min()},
                          {1});
  CHECK(read_npy<double>(path).values[0] == -0x1p63);

  const double inf = std::numeric_limits<double>::infinity();
  write_npy<double>(path, std::vector<double>{0.5, -inf, std::nan(""), -0.0, 0x1p-149}, {5});
  const auto floats = read_npy<float>(path).values;
  CHECK(floats[0] == 0.5f);
  CHECK(floats[1] == -inf);
  CHECK(std::isnan(floats[2]));
  CHECK(std::signbit(floats[3]));
  CHECK(floats[4] == 0x1p-149f);
  for (const double bad : {0.1, 1e300, -1e39, 0x1p-150}) {
    write_npy<double>(path, std::vector<double>{1, bad}, {2});
    CHECK_THAT(message_of<IoError>([&] { (void)read_npy<float>(path); }),
               Contains("element 1 = ") && Contains("is not exact in float32"));
  }
  for (const double bad : {0.5, inf, std::nan(""), 0x1p63, -0x1.1p63}) {
    write_npy<double>(path, std::vector<double>{bad}, {});
    CHECK_THAT(message_of<IoError>([&] { (void)read_npy<std::int64_t>(path); }),
               Contains("element 0 = ") && Contains("is not exact in int64"));
  }
  write_npy<double>(path, std::vector<double>{-0x1p63, 3}, {2});
  CHECK(read_npy<std::int64_t>(path).values ==
        std::vector<std::int64_t>{std::numeric_limits<std::int64_t>::min(), 3});
}

TEST_CASE("damaged headers say what was found and what was expected", "[npy]") {
  const std::string data(8, '\0');
  CHECK_THAT(refusal(""), Contains("a.npy: has 0 bytes, an NPY file begins with '\\x93NUMPY'"));
  CHECK_THAT(refusal("PK\x03\x04 and more"), Contains("not an NPY file: begins with 'PK\\x03"));
  CHECK_THAT(refusal(npy(dict("<f8", "(1,)"), data, 4)),
             Contains("NPY format 4.0, expected 1.0, 2.0 or 3.0"));
  CHECK_THAT(refusal(npy("[1, 2]", data)),
             Contains("not a Python dict: expected '{', found '[1, 2]'"));
  CHECK_THAT(refusal(npy("", data)), Contains("not a Python dict: expected '{', found the end"));
  CHECK_THAT(refusal(npy(dict("<c16", "(1,)"), data)), Contains("unsupported dtype '<c16'"));
  CHECK_THAT(refusal(npy(dict("|O", "(1,)"), data)), Contains("'|O' is refused: object arrays"));
  CHECK_THAT(refusal(npy(dict("f8", "(1,)"), data)), Contains("unsupported dtype 'f8'"));
  CHECK_THAT(refusal(npy(dict("<f8", "(-1,)"), data)), Contains("an extent must be >= 0"));
  CHECK_THAT(refusal(npy(dict("<f8", "(1)"), data)), Contains("expected ',', found '), }"));
  CHECK_THAT(refusal(npy(dict("<f8", "1"), data)), Contains("expected '(', found '1"));
  CHECK_THAT(refusal(npy(dict("<f8", "(1.0,)"), data)), Contains("expected ',', found '.0"));
  CHECK_THAT(refusal(npy(dict("<f8", "(1,)", "0"), data)), Contains("expected True or False"));
  CHECK_THAT(refusal(npy("{'descr': [('x', '<f8')], 'fortran_order': False, 'shape': (1,)}", data)),
             Contains("unsupported structured dtype"));
  CHECK_THAT(refusal(npy("{'descr': '<f8', 'shape': (1,)}", data)),
             Contains("no key 'fortran_order'"));
  CHECK_THAT(refusal(npy("{'descr': '<f8', 'descr': '<f8'}", data)), Contains("key 'descr' twice"));
  CHECK_THAT(refusal(npy("{'order': 'C'}", data)), Contains("unknown key 'order'"));
  CHECK_THAT(refusal(npy("{'descr': '<f8", data)), Contains("without its closing quote"));
  CHECK_THAT(refusal(npy(dict("<f8", "(1,)") + "x", data)), Contains("nothing after the dict"));
  CHECK_THAT(refusal(npy(dict("<f8", "(99999999999999999999,)"), data)),
             Contains("beyond 64 bits"));
  std::string many;
  for (int i = 0; i < 65; ++i) many += "1,";
  CHECK_THAT(refusal(npy(dict("<f8", "(" + many + ")"), data)),
             Contains("more than 64 dimensions"));
  const std::string long_header = std::string((1 << 20) + 1, ' ');
  CHECK_THAT(refusal(npy(long_header, data, 2)),
             Contains("header of 1048577 bytes, must be at most"));
}

TEST_CASE("a shape is compared with the file before anything is allocated", "[npy]") {
  const std::string data(80, '\0');
  CHECK_THAT(
      refusal(npy(dict("<f8", "(11,)"), data)),
      Contains("truncated by 8 bytes: shape (11,) of float64 needs 88 bytes, the file has 80"));
  CHECK_THAT(refusal(npy(dict("<f4", "(3, 6)"), data)),
             Contains("too long by 8 bytes: shape (3, 6)"));
  CHECK_THAT(refusal(npy(dict("<f8", "(1000000000000,)"), data)),
             Contains("needs 8000000000000 bytes"));
  CHECK_THAT(refusal(npy(dict("<f8", "(4294967296, 4294967296)"), data)),
             Contains("needs 147573952589676412928 bytes, the file has 80"));
  CHECK_THAT(refusal(npy(dict("<f8", "(2305843009213693951,)"), data)),
             Contains("the file has 80"));
  CHECK(parse_npy<double>(npy(dict("<f8", "(4294967296, 0, 4294967296)"), ""), "a").values.empty());
  CHECK_THAT(refusal(npy(dict("<f8", "(10,)"), data), {.memory_limit = 79}),
             Contains("needs 80 bytes of memory, must be at most 79"));
  // a hole on disk makes a large file for nothing: the limit holds there too
  const Scratch scratch;
  std::string file = npy(dict("<f8", "(1000000000000,)"), "");
  put(scratch / "hole.npy", file);
  std::error_code code;
  std::filesystem::resize_file(scratch / "hole.npy", file.size() + 8000000000000u, code);
  if (!code)  // not every file system takes a file of that size
    CHECK_THAT(message_of<IoError>([&] { (void)read_npy<double>(scratch / "hole.npy"); }),
               Contains("needs 8e+12 bytes of memory, must be at most"));
}

TEST_CASE("a file cut at any byte is refused", "[npy]") {
  const Scratch scratch;
  const auto path = scratch / "a.npy";
  for (const int version : {1, 2, 3}) {
    const auto values = random_bits<double>(12, 3);
    write_npy<double>(path, values, {3, 4}, {.version = version});
    const std::string whole = get(path);
    REQUIRE(parse_npy<double>(whole, "a").values.size() == 12);
    for (std::size_t length = 0; length < whole.size(); ++length) {
      INFO("version " << version << ", " << length << " of " << whole.size() << " bytes");
      REQUIRE_THROWS_AS(parse_npy<double>(whole.substr(0, length), "a"), IoError);
      if (length % 16 == 0) {
        put(path, std::string_view(whole).substr(0, length));
        REQUIRE_THROWS_AS(read_npy<double>(path), IoError);
      }
    }
    REQUIRE_THROWS_AS(parse_npy<double>(whole + 'x', "a"), IoError);
  }
}

TEST_CASE("random damage gives IoError or an array, never a crash", "[npy]") {
  const unsigned seed = 20240917;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const std::string whole = npy(dict("<f8", "(3, 4)"), std::string(96, '\x40'));
  int refused = 0;
  for (int trial = 0; trial < 10000; ++trial) {
    std::string damaged = whole;
    const int flips = 1 + static_cast<int>(random() % 4);
    for (int flip = 0; flip < flips; ++flip)
      damaged[random() % (trial % 2 == 0 ? 80 : damaged.size())] ^=
          static_cast<char>(1 << random() % 8);
    try {
      const auto array = parse_npy<double>(damaged, "a", {.memory_limit = 1 << 20});
      std::ptrdiff_t size = 1;
      for (const auto extent : array.shape) size *= extent;
      REQUIRE(size == std::ssize(array.values));
    } catch (const IoError&) {
      ++refused;
    }
  }
  CHECK(refused > 5000);
}

TEST_CASE("writing refuses what does not fit together", "[npy]") {
  const Scratch scratch;
  const std::vector<double> values(6);
  CHECK_THAT(
      message_of<ShapeError>([&] {
        write_npy<double>(scratch / "a", values, {2, 4});
      }),
      Contains("halfulp::write_npy: values.size() = 6, must be the product of shape (2, 4)"));
  CHECK_THAT(message_of<DomainError>([&] {
               write_npy<double>(scratch / "a", values, {2, -3});
             }),
             Contains("halfulp::write_npy: shape[1] = -3, must be >= 0"));
  CHECK_THROWS_AS(write_npy<double>(scratch / "a", values, {6}, {.version = 4}), DomainError);
  CHECK_THROWS_AS(
      write_npy<double>(scratch / "a", values, {std::ptrdiff_t{1} << 40, std::ptrdiff_t{1} << 40}),
      ShapeError);
  CHECK(scratch.entries() == 0);
}

TEST_CASE("what cannot be opened is named", "[npy]") {
  const Scratch scratch;
  CHECK_THAT(message_of<IoError>([&] { (void)read_npy<double>(scratch / "none.npy"); }),
             Contains("none.npy: cannot open for reading: No such file or directory"));
  CHECK_THAT(message_of<IoError>([&] { (void)read_npy<double>(scratch.path()); }),
             Contains("is a directory"));
  CHECK_THAT(message_of<IoError>([&] { (void)read_npy<double>("/dev/null"); }),
             Contains("not a regular file"));
  const std::vector<double> one(1);
  CHECK_THAT(message_of<IoError>([&] { write_npy<double>("/dev/full", one, {1}); }),
             Contains("/dev/full: cannot write: No space left on device"));
}
