// Prints Fibonacci numbers: of the indexes in its arguments, or of one that it asks for.
#include <charconv>
#include <cstdint>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>

constexpr unsigned last = 93; // the next one does not fit into 64 bits

constexpr std::uint64_t fibonacci(unsigned index) {
    std::uint64_t a = 0, b = 1;
    while (index-- > 0) {
        const auto sum = a + b;
        a = b;
        b = sum;
    }
    return a;
}
static_assert(fibonacci(21) == 10946);

static std::optional<unsigned> parse(std::string_view text) {
    constexpr std::string_view space = " \t\r\n";
    const auto start = text.find_first_not_of(space);
    if (start == text.npos)
        return std::nullopt;
    text = text.substr(start, text.find_last_not_of(space) - start + 1);
    unsigned index = 0;
    const auto end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, index);
    if (error != std::errc{} || stop != end || index > last)
        return std::nullopt;
    return index;
}

static bool answer(std::string_view text) {
    const auto index = parse(text);
    if (!index) {
        std::cerr << "expected a number from 0 to " << last << ", got \"" << text << "\"\n";
        return false;
    }
    std::cout << "Fibonacci sequence number at index " << *index << " is " << fibonacci(*index) << '\n';
    return true;
}

int main(int argc, char *argv[]) {
    std::cout << "C++ - Fibonacci sequence example\n";
    if (argc < 2) {
        std::string line;
        std::cout << "Enter a non-negative number:" << std::endl;
        std::getline(std::cin, line);
        return answer(line) ? 0 : 1;
    }
    for (int i = 1; i < argc; i++)
        if (!answer(argv[i]))
            return 1;
    return 0;
}
