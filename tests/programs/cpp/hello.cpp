// Prints its arguments, WHO from the environment, and the Fibonacci numbers for the indexes on stdin.
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <vector>

int main(int argc, char *argv[]) {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    const char *who = std::getenv("WHO");
    std::cout << "hello from C++ args=" << arguments.size();
    for (const auto &argument : arguments)
        std::cout << ' ' << argument;
    std::cout << " WHO=" << (who != nullptr ? who : "nobody") << '\n';
    std::map<unsigned, std::uint64_t> known{{0, 0}, {1, 1}};
    for (unsigned index; std::cin >> index;) {
        for (unsigned i = 2; i <= index; i++)
            known[i] = known[i - 1] + known[i - 2];
        std::cout << "fib(" << index << ")=" << known[index] << '\n';
    }
}
