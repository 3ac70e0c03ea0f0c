// OpenSSL's declarations. A function-like macro that Swift cannot import gets a static inline function here.
#pragma once
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

static const uint64_t martlet_ssl_op_always =
    SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE;
static const uint64_t martlet_ssl_op_no_tls1 = SSL_OP_NO_TLSv1;
static const uint64_t martlet_ssl_op_no_tls1_1 = SSL_OP_NO_TLSv1_1;
static const uint64_t martlet_ssl_op_no_tls1_2 = SSL_OP_NO_TLSv1_2;
static const uint64_t martlet_ssl_op_no_tls1_3 = SSL_OP_NO_TLSv1_3;

static inline void martlet_bio_retry_read(BIO *bio) { BIO_set_retry_read(bio); }
static inline void martlet_bio_retry_write(BIO *bio) { BIO_set_retry_write(bio); }
static inline void martlet_bio_clear_retry(BIO *bio) { BIO_clear_retry_flags(bio); }

static inline void martlet_ssl_ctx_set_mode(SSL_CTX *context, long mode) { SSL_CTX_set_mode(context, mode); }
static inline int martlet_ssl_ctx_set_versions(SSL_CTX *context, int least, int most)
{
    return SSL_CTX_set_min_proto_version(context, least) && SSL_CTX_set_max_proto_version(context, most);
}
static inline int martlet_ssl_ctx_set_groups(SSL_CTX *context, const char *names)
{
    return (int)SSL_CTX_set1_groups_list(context, names);
}
static inline void martlet_ssl_ctx_set_dh_auto(SSL_CTX *context, int kind) { SSL_CTX_set_dh_auto(context, kind); }
static inline void martlet_ssl_ctx_set_session_cache(SSL_CTX *context, long mode)
{
    SSL_CTX_set_session_cache_mode(context, mode);
}
static inline int martlet_ssl_ctx_add_chain_certificate(SSL_CTX *context, X509 *certificate)
{
    return (int)SSL_CTX_add1_chain_cert(context, certificate);
}
static inline int martlet_ssl_set_host_name(SSL *ssl, const char *name)
{
    return (int)SSL_set_tlsext_host_name(ssl, name);
}
// HMAC-SHA-256 without a key; null if libcrypto has none.
static inline EVP_MAC_CTX *martlet_hmac_sha256(void)
{
    EVP_MAC *algorithm = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *context = algorithm ? EVP_MAC_CTX_new(algorithm) : NULL;
    EVP_MAC_free(algorithm);  // The context keeps it.
    char digest[] = "SHA256";
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
    if (context && EVP_MAC_CTX_set_params(context, parameters)) return context;
    EVP_MAC_CTX_free(context);
    return NULL;
}

static inline int martlet_ssl_group(SSL *ssl) { return (int)SSL_get_negotiated_group(ssl); }
