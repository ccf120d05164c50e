"""Who may speak: the CA, CSRs, join tokens, renewal times. `now` is passed in. Must not know files or sockets."""

from swarmd.pki.authority import (
    CA_SERVER_NAME,
    OU_OF_ROLE,
    Authority,
    Subject,
    check_csr,
    fingerprint,
    new_key_and_csr,
    read_subject,
    renewal_at,
    root_digest,
    verify_issued,
)
from swarmd.pki.join_code import is_join_code, join_code, same_code
from swarmd.pki.renewal import authenticate_renewal, have_same_key, sign_renewal
from swarmd.pki.tokens import JoinToken, new_token, parse_token, role_of_token

__all__ = [
    "CA_SERVER_NAME",
    "OU_OF_ROLE",
    "Authority",
    "JoinToken",
    "Subject",
    "authenticate_renewal",
    "check_csr",
    "fingerprint",
    "have_same_key",
    "is_join_code",
    "join_code",
    "new_key_and_csr",
    "new_token",
    "parse_token",
    "read_subject",
    "renewal_at",
    "role_of_token",
    "root_digest",
    "same_code",
    "sign_renewal",
    "verify_issued",
]
