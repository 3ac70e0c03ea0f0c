// OpenSSL's declarations. A function-like macro that Swift cannot import gets a static inline function here.
#pragma once
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
