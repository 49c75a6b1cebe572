#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <csignal>
#include <limits>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "detail/require.hpp"
#include "halfulp/error.hpp"
#include "halfulp/file.hpp"
#include "halfulp/progress.hpp"
#include "halfulp/report.hpp"
#include "halfulp/text.hpp"
#include "scratch.hpp"
#include "terminal_progress.hpp"

using namespace halfulp;
using Catch::Matchers::Contains;

TEST_CASE("messages follow the grammar", "[core][error]") {
  using detail::require;
  CHECK(message_of<DomainError>([] { require(false, "kde", "bandwidth", -0.5, "> 0"); }) ==
        "halfulp::kde: bandwidth = -0.5, must be > 0");
  CHECK(message_of<DomainError>([] { require(false, "kde", "h", 0.1, "> 1"); }) ==
        "halfulp::kde: h = 0.1, must be > 1");
  CHECK(message_of<DomainError>([] { require(false, "kde", "h", 0.1 + 0.2, "> 1"); }) ==
        "halfulp::kde: h = 0.30000000000000004, must be > 1");
  CHECK(message_of<DomainError>([] { require(false, "kde", "h", 0.1f, "> 1"); }) ==
        "halfulp::kde: h = 0.1, must be > 1");
  CHECK(message_of<DomainError>([] {
          require(false, "kde", "n", std::numeric_limits<std::int64_t>::max(), "< 9");
        }) == "halfulp::kde: n = 9223372036854775807, must be < 9");
  CHECK(message_of<DomainError>([] { require(false, "kde", "fast", true, "false"); }) ==
        "halfulp::kde: fast = true, must be false");
  CHECK(message_of<DomainError>([] { require(false, "kde", "kernel", "gau\xFFss\n", "known"); }) ==
        "halfulp::kde: kernel = gau\\xFFss\\x0A, must be known");
  CHECK(message_of<DomainError>([] {
          const double h = std::nan("");
          require(h > 0, "kde", "h", h, "> 0");
        }) == "halfulp::kde: h = nan, must be > 0");
  CHECK_NOTHROW(require(true, "kde", "h", 1.0, "> 0"));
  CHECK(message_of<ShapeError>([] { detail::require_size("kde", "out", 99, 100); }) ==
        "halfulp::kde: out.size() = 99, must be 100");
  CHECK(message_of<ShapeError>([] { detail::require_size("kde", "x.rows()", 2, 3); }) ==
        "halfulp::kde: x.rows() = 2, must be 3");
  std::vector<double> samples(20, 1.0);
  CHECK_NOTHROW(detail::require_finite("kde", "samples", samples));
  samples[17] = std::nan("");
  samples[19] = 1 / 0.0;
  CHECK(message_of<DomainError>([&] { detail::require_finite("kde", "samples", samples); }) ==
        "halfulp::kde: samples[17] = nan, must be finite");
  CHECK(std::string(DeviceError("cuda::kde", 2, "out of memory").what()) ==
        "halfulp::cuda::kde: CUDA error 2: out of memory");
  CHECK(DeviceError("cuda::kde", 2, "out of memory").code() == 2);
  CHECK(std::string(IoError("a\x1B[2J.npy", "gone").what()) == "a\\x1B[2J.npy: gone");
  CHECK(std::string(Cancelled("gp_pde::solve").what()) ==
        "halfulp::gp_pde::solve: cancelled by the caller");
  CHECK(DomainError("f", "x", 1.0, "> 1").argument() == "x");
}

TEST_CASE("an input error shows the line and a caret", "[core][error]") {
  const auto shown = [](int column, std::string_view line) {
    return std::string(InputError("p.toml", 8, column, "oops", line).what());
  };
  CHECK(shown(10, "   u = \"sine(k*x)\"") == "p.toml:8:10: oops\n  u = \"sine(k*x)\"\n        ^");
  CHECK(shown(1, "u = 1\r\n") == "p.toml:8:1: oops\n  u = 1\n  ^");
  CHECK(shown(6, "u = 1") == "p.toml:8:6: oops\n  u = 1\n       ^");
  CHECK(shown(99, "u = 1") == "p.toml:8:99: oops\n  u = 1\n       ^");
  CHECK(shown(2, "   u") == "p.toml:8:2: oops\n    u\n  ^");
  CHECK(shown(0, "u = 1") == "p.toml:8: oops\n  u = 1");
  // columns count bytes, the caret characters: e with an accent is two of the first, one of the
  // second
  CHECK(shown(5, "\xC3\xA9 = x") == "p.toml:8:5: oops\n  \xC3\xA9 = x\n     ^");
  CHECK(shown(4, "u\xFF = x") == "p.toml:8:4: oops\n  u\\xFF = x\n        ^");
  CHECK(shown(3, "\tu\tv") == "p.toml:8:3: oops\n  u v\n   ^");
  const std::string long_line = std::string(500, 'a') + "?" + std::string(500, 'b');
  CHECK(shown(501, long_line) == "p.toml:8:501: oops\n  ..." + std::string(60, 'a') + "?" +
                                     std::string(39, 'b') + "...\n  " + std::string(63, ' ') + "^");
  CHECK(std::string(InputError("p.toml", 0, 0, "no [domain]").what()) == "p.toml: no [domain]");
  const InputError error("p.toml", 8, 3, "found '\x01'");
  CHECK(error.message() == "found '\\x01'");
  CHECK(error.line() == 8);
  CHECK(error.column() == 3);
}

TEST_CASE("reports print as documented", "[core][report]") {
  std::ostringstream out;
  out << Report{Status::max_iterations, 500, 3.1e-9, 1e-10};
  CHECK(out.str() == "max_iterations after 500: residual 3.1e-09, tolerance 1e-10");
  CHECK(to_string(Status::not_positive_definite) == "not_positive_definite");
  CHECK_FALSE(Report{}.ok());
}

TEST_CASE("numbers as text", "[core][text]") {
  CHECK(number_text(0.1) == "0.1");
  CHECK(number_text(-0.0) == "-0");
  CHECK(number_text(-std::nan("")) == "nan");
  CHECK(number_text(1 / -0.0) == "-inf");
  CHECK(hex_text(12) == "0x1.8p+3");
  CHECK(hex_text(-0.0) == "-0x0p+0");
  CHECK(hex_text(std::numeric_limits<double>::denorm_min()) == "0x0.0000000000001p-1022");
  CHECK(parse_number("0x0.0000000000001p-1022") == std::numeric_limits<double>::denorm_min());
  CHECK(parse_number("0x1p+1024") == std::numeric_limits<double>::infinity());
  CHECK(parse_number("-0x1p-1080") == 0);
  CHECK(parse_number("1e-99999999999999999999") == 0);
  CHECK(parse_number("1e+99999999999999999999") == std::numeric_limits<double>::infinity());
  CHECK(parse_number("0." + std::string(500, '0') + "1") == 0);
  CHECK(parse_number("1" + std::string(400, '0')) == std::numeric_limits<double>::infinity());
  CHECK(parse_number("0." + std::string(500, '0') + "1e501") == 1.0);
  CHECK(parse_number("0" + std::string(500, '0') + "e999") == 0);
  CHECK(parse_number("179769313486231580793728971405301e276") ==
        std::numeric_limits<double>::max());
  for (const char* bad :
       {"",     "+",   "-",   ".",       "e1",    "1e", "1 ", " 1",  "0x",   "0x.",  "0xp1",
        "0x1p", "--1", "-+1", "infinit", "nan()", "in", "1f", "1,5", "0x-1", "++inf"})
    CHECK_FALSE(parse_number(bad));
  CHECK(escape_text("a\x1B\x7F\n\xC2\x85\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82") ==
        "a\\x1B\\x7F\\x0A\\xC2\\x85\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82");
  CHECK(escape_text("\xC0\x80 \xED\xA0\x80 \xF5\x80\x80\x80 \xE2\x82") ==
        "\\xC0\\x80 \\xED\\xA0\\x80 \\xF5\\x80\\x80\\x80 \\xE2\\x82");
  CHECK(escape_text(escape_text("\xFF")) == "\\xFF");
}

TEST_CASE("files are replaced whole", "[core][file]") {
  const Scratch scratch;
  const auto path = scratch / "a.txt";
  write_file_atomic(path, "one");
  CHECK(read_file(path, 3) == "one");
  CHECK(message_of<IoError>([&] { (void)read_file(path, 2); }) ==
        path.string() + ": has 3 bytes, must be at most 2");
  struct stat status {};
  const mode_t mask = ::umask(0);
  ::umask(mask);
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == (0666 & ~mask));
  ::chmod(path.c_str(), 0640);
  write_file_atomic(path, std::string(100000, 'x'));
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0640);
  CHECK(read_file(path, 1 << 20).size() == 100000);
  write_file_atomic(path, "");
  CHECK(read_file(path, 0).empty());

  std::filesystem::create_symlink("a.txt", scratch / "link");
  std::filesystem::create_symlink("b.txt", scratch / "dangling");
  write_file_atomic(scratch / "link", "through");
  write_file_atomic(scratch / "dangling", "made");
  CHECK(std::filesystem::is_symlink(scratch / "link"));
  CHECK(get(path) == "through");
  CHECK(get(scratch / "b.txt") == "made");
  CHECK(scratch.entries() == 4);
}

TEST_CASE("a failed write leaves the old file and nothing else", "[core][file]") {
  const Scratch scratch;
  const auto path = scratch / "a.txt";
  const std::string big(1 << 20, 'x');
  write_file_atomic(path, "old");
  {
    // what a full disk does to a regular file: some bytes go in, then write fails
    struct rlimit before {};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    const struct rlimit small { 100000, before.rlim_max };
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    const std::string message = message_of<IoError>([&] { write_file_atomic(path, big); });
    ::setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, handler);
    CHECK(message == path.string() + ": cannot write: File too large");
  }
  CHECK(get(path) == "old");
  CHECK(scratch.entries() == 1);
  CHECK_THAT(message_of<IoError>([&] { write_file_atomic(scratch / "none" / "a.txt", "x"); }),
             Contains("none/a.txt: cannot write: No such file or directory"));
  CHECK_THAT(message_of<IoError>([&] { write_file_atomic(path / "b.txt", "x"); }),
             Contains("cannot write: Not a directory"));
  CHECK_THAT(message_of<IoError>([&] { write_file_atomic(scratch.path(), "x"); }),
             Contains("is a directory"));
  CHECK_THAT(message_of<IoError>([&] { write_file_atomic("/dev/full", "x"); }),
             Contains("/dev/full: cannot write: No space left on device"));
  CHECK_THAT(message_of<IoError>([&] { write_file_atomic("", "x"); }), Contains("name is empty"));
  CHECK_THAT(message_of<IoError>([&] { write_file_atomic(std::string("a\0b", 3), "x"); }),
             Contains("a\\x00b: the file name contains a zero byte"));
  CHECK_THAT(message_of<IoError>([&] { (void)read_file("/dev/zero", 100000); }),
             Contains("bytes or more, must be at most 100000"));
  if (::geteuid() != 0) {  // root may write everywhere
    std::filesystem::permissions(scratch.path(), std::filesystem::perms(0500));
    CHECK_THAT(message_of<IoError>([&] { write_file_atomic(scratch / "c.txt", "x"); }),
               Contains("c.txt: cannot write: Permission denied"));
    std::filesystem::permissions(scratch.path(), std::filesystem::perms(0700));
    std::filesystem::permissions(path, std::filesystem::perms(0400));
    CHECK_THAT(message_of<IoError>([&] { write_file_atomic(path, "x"); }),
               Contains("a.txt: cannot write: Permission denied"));
  }
  CHECK(scratch.entries() == 1);
  CHECK_NOTHROW(write_file_atomic("/dev/null", big));
  CHECK(std::filesystem::is_character_file("/dev/null"));
}

TEST_CASE("progress reports and cancels", "[core][progress]") {
  std::vector<std::pair<double, std::string>> seen;
  const Progress progress = [&](double fraction, const char* phase) {
    seen.emplace_back(fraction, phase);
    return fraction < 0.5;
  };
  CHECK_NOTHROW(report_progress({}, 0.1, "nobody listens", "f"));
  CHECK_NOTHROW(report_progress(progress, -0.1, "basis", "f"));
  CHECK(message_of<Cancelled>([&] { report_progress(progress, 1.5, "factor", "gp_pde::solve"); }) ==
        "halfulp::gp_pde::solve: cancelled by the caller");
  CHECK(seen == std::vector<std::pair<double, std::string>>{{0.0, "basis"}, {1.0, "factor"}});
  CHECK(part_of(progress, 0.2, 0.4)(0.5, "half of it"));
  CHECK(seen.back().first == Approx(0.3));
  CHECK_FALSE(part_of({}, 0, 1));
}

TEST_CASE("a terminal sees one line that is erased, anything else sees nothing",
          "[core][progress]") {
  const auto work = [](TerminalProgress& shown) {
    const Progress progress = shown.callback();
    report_progress(progress, 0, "too early to show", "f");
    std::this_thread::sleep_for(std::chrono::milliseconds(120));
    report_progress(progress, 0.429, "factor\x1B the operator", "f");
    report_progress(progress, 0.43, "too soon after", "f");
  };
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0) {  // a container without /dev/pts
    WARN("no pseudo-terminal here, nothing checked");
    return;
  }
  REQUIRE(::grantpt(terminal) == 0);
  REQUIRE(::unlockpt(terminal) == 0);
  const int slave = ::open(::ptsname(terminal), O_RDWR | O_NOCTTY);
  REQUIRE(slave >= 0);
  struct winsize size {};
  size.ws_col = 30;
  REQUIRE(::ioctl(slave, TIOCSWINSZ, &size) == 0);
  const char* term = std::getenv("TERM");
  const std::string before = term == nullptr ? "" : term;

  ::setenv("TERM", "xterm", 1);
  {
    TerminalProgress shown(false, slave);
    work(shown);
    TerminalProgress quiet(true, slave);
    CHECK_FALSE(quiet.callback());
  }
  // A terminal hands on what was written when it gets to it, perhaps in parts.
  const std::string expected = "\r 42 %  0 s  factor\\x1B the op\x1B[K\r\x1B[K";
  std::string text;
  pollfd ready{terminal, POLLIN, 0};
  while (text.size() < expected.size() && ::poll(&ready, 1, 5000) == 1) {
    char part[256];
    const ssize_t count = ::read(terminal, part, sizeof part);
    REQUIRE(count > 0);
    text.append(part, static_cast<std::size_t>(count));
  }
  CHECK(text == expected);
  ::setenv("TERM", "dumb", 1);
  {
    TerminalProgress dumb(false, slave);
    CHECK_FALSE(dumb.callback());
  }
  ::setenv("TERM", "xterm", 1);
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  {
    TerminalProgress piped(false, pipe[1]);
    CHECK_FALSE(piped.callback());
    work(piped);
  }
  ::close(pipe[1]);
  char none;
  CHECK(::read(pipe[0], &none, 1) == 0);
  ::close(pipe[0]);
  ::close(slave);
  ::close(terminal);
  before.empty() ? ::unsetenv("TERM") : ::setenv("TERM", before.c_str(), 1);
}
