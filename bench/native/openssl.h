/* What the peers need of OpenSSL, declared here so that its development package need not be installed: they are linked
   with the very libraries that Python's ssl module uses. The numbers are OpenSSL's public ABI (1.1.1 and all of 3.x). */
#ifndef BENCH_OPENSSL_H
#define BENCH_OPENSSL_H

typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;
typedef struct ssl_method_st SSL_METHOD;
typedef struct ssl_cipher_st SSL_CIPHER;

enum { SSL_ERROR_WANT_READ = 2, SSL_ERROR_WANT_WRITE = 3, SSL_ERROR_ZERO_RETURN = 6 };
enum { SSL_FILETYPE_PEM = 1, TLS1_3_VERSION = 0x0304 };
enum { SSL_CTRL_MODE = 33, SSL_CTRL_SET_GROUPS_LIST = 92, SSL_CTRL_SET_MIN_PROTO_VERSION = 123 };
enum { SSL_MODE_ENABLE_PARTIAL_WRITE = 1, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER = 2 };

const SSL_METHOD *TLS_client_method(void);
const SSL_METHOD *TLS_server_method(void);
SSL_CTX *SSL_CTX_new(const SSL_METHOD *);
long SSL_CTX_ctrl(SSL_CTX *, int command, long number, void *pointer);
int SSL_CTX_set_ciphersuites(SSL_CTX *, const char *);
int SSL_CTX_use_certificate_chain_file(SSL_CTX *, const char *);
int SSL_CTX_use_PrivateKey_file(SSL_CTX *, const char *, int type);
SSL *SSL_new(SSL_CTX *);
void SSL_free(SSL *);
int SSL_set_fd(SSL *, int);
void SSL_set_accept_state(SSL *);
void SSL_set_connect_state(SSL *);
int SSL_do_handshake(SSL *);
int SSL_read(SSL *, void *, int);
int SSL_write(SSL *, const void *, int);
int SSL_pending(const SSL *);
int SSL_shutdown(SSL *);
int SSL_get_error(const SSL *, int);
void ERR_clear_error(void);

/* TLS 1.3 and nothing older; writes may be partial, as they are on a plain socket. */
static SSL_CTX *new_context(const SSL_METHOD *method) {
    SSL_CTX *context = SSL_CTX_new(method);
    SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_3_VERSION, 0);
    SSL_CTX_ctrl(context, SSL_CTRL_MODE, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER, 0);
    return context;
}

#endif
