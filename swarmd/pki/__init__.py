"""Who may speak: the CA, CSRs, join tokens, renewal times. `now` is passed in. Must not know files or sockets."""

from swarmd.pki.authority import (
    CA_SERVER_NAME,
    OU_OF_ROLE,
    Authority,
    Subject,
    check_csr,
    csr_of,
    fingerprint,
    new_key_and_csr,
    read_subject,
    renewal_at,
    root_digest,
    verify_issued,
)
from swarmd.pki.chain import is_signed_with_key_of
from swarmd.pki.issued import check_issued, names_of
from swarmd.pki.join_code import is_join_code, join_code, same_code
from swarmd.pki.renewal import authenticate_renewal, have_same_key, sign_renewal
from swarmd.pki.root_update import (
    NewRoot,
    Signing,
    begin_rotation,
    cross_sign,
    decide_root,
    own_root,
    request_of_root,
    signing_of,
)
from swarmd.pki.roots import check_cross_signed, check_key, check_root, is_same_key, normal_root, root_expiry
from swarmd.pki.server import is_manager_of
from swarmd.pki.tokens import JoinToken, new_token, parse_token, role_of_token

__all__ = [
    "CA_SERVER_NAME",
    "OU_OF_ROLE",
    "Authority",
    "JoinToken",
    "NewRoot",
    "Signing",
    "Subject",
    "authenticate_renewal",
    "begin_rotation",
    "check_cross_signed",
    "check_csr",
    "check_issued",
    "check_key",
    "check_root",
    "cross_sign",
    "csr_of",
    "decide_root",
    "fingerprint",
    "have_same_key",
    "is_join_code",
    "is_manager_of",
    "is_same_key",
    "is_signed_with_key_of",
    "join_code",
    "names_of",
    "new_key_and_csr",
    "new_token",
    "normal_root",
    "own_root",
    "parse_token",
    "read_subject",
    "renewal_at",
    "request_of_root",
    "role_of_token",
    "root_digest",
    "root_expiry",
    "same_code",
    "sign_renewal",
    "signing_of",
    "verify_issued",
]
