// The reporter `unity`: one line a test case in the format of ThrowTheSwitch Unity, for embedded CI tools that read it.
//
//   file:line:name:PASS
//   file:line:name:FAIL: message
//   file:line:name:IGNORE: message
//   (an empty line)
//   -----------------------
//   3 Tests 1 Failures 1 Ignored
//   FAIL
//
// Its readers split lines at colons and white space, so a name is written in letters, digits and underscores only. The
// place of a failure is that of its first failed assertion. Included by tests/main.cpp alone.
#pragma once

#include <cctype>
#include <string>

#include "tests/catch.h"
#include "tests/tally.h"

namespace penstock {

#if CATCH_VERSION_MAJOR >= 3
using UnityReporterBase = Catch::StreamingReporterBase;
#else
using UnityReporterBase = Catch::StreamingReporterBase<class UnityReporter>;
#endif

class UnityReporter : public UnityReporterBase {
 public:
#if CATCH_VERSION_MAJOR >= 3
  explicit UnityReporter(Catch::ReporterConfig&& config) : UnityReporterBase(std::move(config)) {}
  void assertionEnded(const Catch::AssertionStats& stats) override { see(stats); }
  std::ostream& out() { return m_stream; }
#else
  explicit UnityReporter(const Catch::ReporterConfig& config) : UnityReporterBase(config) {}
  void assertionStarting(const Catch::AssertionInfo&) override {}
  bool assertionEnded(const Catch::AssertionStats& stats) override {
    see(stats);
    return true;
  }
  void noMatchingTestCases(const std::string&) override {}
  std::ostream& out() { return stream; }
#endif
  static std::string getDescription() { return "one line a test case, in the format of ThrowTheSwitch Unity"; }

  void testCaseStarting(const Catch::TestCaseInfo& info) override {
    UnityReporterBase::testCaseStarting(info);
    failure_.clear();
    place_ = place(info.lineInfo);
  }

  void testCaseEnded(const Catch::TestCaseStats& stats) override {
    const bool good = stats.totals.assertions.allOk() && stats.totals.testCases.failed == 0;
    const std::string begin = place_ + ":" + identifier(stats.testInfo) + ":";
    ++tests_;
    if (!good) {
      ++failures_;
      out() << begin << "FAIL: " << (failure_.empty() ? "failed without a message" : failure_) << '\n';
    } else if (auto why = tally().skipped_because(); why) {
      ++ignored_;
      out() << begin << "IGNORE: " << one_line(*why) << '\n';
    } else {
      out() << begin << "PASS\n";
    }
    out().flush();
    UnityReporterBase::testCaseEnded(stats);
  }

  void testRunEnded(const Catch::TestRunStats& stats) override {
    // Unity itself leaves a blank at the end of the line of totals.
    out() << "\n-----------------------\n"
          << tests_ << " Tests " << failures_ << " Failures " << ignored_ << " Ignored \n"
          << (failures_ == 0 ? "OK" : "FAIL") << std::endl;
    UnityReporterBase::testRunEnded(stats);
  }

 private:
  static std::string place(const Catch::SourceLineInfo& line) {
    return std::string(line.file) + ":" + std::to_string(line.line);
  }

  template <class Info>
  static std::string identifier(const Info* info) {
    return identifier(*info);
  }
  template <class Info>
  static std::string identifier(const Info& info) {
    std::string name;
    for (char c : info.name) {
      if (std::isalnum(static_cast<unsigned char>(c))) {
        name += c;
      } else if (!name.empty() && name.back() != '_') {
        name += '_';
      }
    }
    while (!name.empty() && name.back() == '_') name.pop_back();
    return name.empty() ? "test" : name;
  }

  static std::string one_line(std::string text) {
    for (char& c : text) {
      if (c == '\n' || c == '\r') c = ' ';
    }
    return text;
  }

  void see(const Catch::AssertionStats& stats) {
    const auto& result = stats.assertionResult;
    if (result.isOk() || !failure_.empty()) return;
    place_ = place(result.getSourceInfo());
    std::string text;
    if (result.hasExpression()) text = result.getExpressionInMacro();
    if (result.hasExpandedExpression()) text += " with " + result.getExpandedExpression();
    const std::string message(result.getMessage());
    if (!message.empty()) text += (text.empty() ? "" : ": ") + message;
    failure_ = one_line(text.empty() ? "failed" : text);
  }

  std::string failure_, place_;
  std::size_t tests_ = 0, failures_ = 0, ignored_ = 0;
};

}  // namespace penstock
