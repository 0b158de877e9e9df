// {{name}}: greets each client and sends back what it says.
//
// The listener is open already: it is the fourth entry of Enarx.toml, hence descriptor 3. TLS happens outside.
#include <array>
#include <cstdio>
#include <fcntl.h>
#include <poll.h>
#include <string_view>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

constexpr int listener = 3;
constexpr std::string_view greeting = "hello from {{name}}: say something\n";

// Returns false when the client is gone. A client that takes nothing holds up the others.
static bool send_all(int client, std::string_view bytes) {
    while (!bytes.empty()) {
        const auto sent = send(client, bytes.data(), bytes.size(), 0);
        if (sent < 0)
            return false;
        bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
}

// Returns false when the conversation is over.
static bool serve(int client) {
    std::array<char, 4096> said;
    const auto length = recv(client, said.data(), said.size(), 0);
    return length > 0 && send_all(client, {said.data(), static_cast<size_t>(length)});
}

int main() {
    std::vector<pollfd> watched{{.fd = listener, .events = POLLIN, .revents = 0}};

    // accept() shall not wait: a client that poll() saw coming may be gone again.
    if (fcntl(listener, F_SETFL, O_NONBLOCK) < 0) {
        std::perror("descriptor 3 is no listener");
        return 1;
    }
    for (;;) {
        if (poll(watched.data(), watched.size(), -1) < 0) {
            std::perror("poll");
            return 1;
        }
        const bool knocking = watched.front().revents != 0;
        std::erase_if(watched, [](const pollfd &entry) {
            if (entry.fd == listener || entry.revents == 0 || serve(entry.fd))
                return false;
            close(entry.fd);
            return true;
        });
        if (knocking) {
            sockaddr unused;
            socklen_t size = sizeof unused;
            const int client = accept(listener, &unused, &size);
            if (client < 0)
                continue;
            if (send_all(client, greeting))
                watched.push_back({.fd = client, .events = POLLIN, .revents = 0});
            else
                close(client);
        }
    }
}
