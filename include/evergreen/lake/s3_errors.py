"""Why an S3 server or its client said no, in the lake's own errors, whichever of the two clients asked.

The clients tell causes in their text alone, so it is searched for the codes of the S3 API and the words of
the TLS and socket layers. None of that text is repeated: what a server echoes is not ours to show.
"""

from __future__ import annotations

from dataclasses import dataclass

from evergreen.errors import ConfigurationError, EvergreenError, LakeUnavailable


@dataclass(frozen=True, kw_only=True)
class Cause:
    """A cause that no retry mends."""

    marks: tuple[str, ...]
    """Any of these in the error's text tells the cause."""
    found: str
    remedy: str


CAUSES = (
    Cause(
        marks=("NoSuchBucket",),
        found="no such bucket",
        remedy="Create the bucket, or correct EVERGREEN_LAKE_URL and AWS_ENDPOINT_URL.",
    ),
    Cause(
        marks=("InvalidAccessKeyId",),
        found="a key that the server does not know",
        remedy="Correct AWS_ACCESS_KEY_ID; of an unknown AWS_SSE_KMS_KEY_ID some servers say the same.",
    ),
    Cause(
        marks=("SignatureDoesNotMatch",),
        found="a signature made with another secret key",
        remedy="Correct AWS_SECRET_ACCESS_KEY.",
    ),
    Cause(
        marks=("ExpiredToken", "InvalidToken", "TokenRefreshRequired"),
        found="a session token that has expired or is invalid",
        remedy="Renew AWS_SESSION_TOKEN together with its keys.",
    ),
    Cause(
        marks=("RequestTimeTooSkewed",),
        found="a clock that differs from the server's",
        remedy="Set this machine's clock.",
    ),
    Cause(
        marks=("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"),
        found="a bucket of another region",
        remedy="Set AWS_REGION to the bucket's region.",
    ),
    Cause(
        marks=("KMS.", "KMSKey", "InvalidEncryption", "ServerSideEncryptionConfigurationNotFound"),
        found="an encryption key or method that the server refuses",
        remedy="Correct AWS_SERVER_SIDE_ENCRYPTION and AWS_SSE_KMS_KEY_ID.",
    ),
    Cause(
        marks=("CERTIFICATE_VERIFY_FAILED", "UnknownIssuer", "invalid peer certificate"),
        found="a server whose certificate is not trusted",
        remedy="Set AWS_CA_BUNDLE to the file of its authority's certificate.",
    ),
    Cause(
        marks=("WRONG_VERSION_NUMBER", "InvalidContentType", "RECORD_LAYER_FAILURE"),
        found="a server that does not speak TLS",
        remedy="Correct AWS_ENDPOINT_URL.",
    ),
    Cause(
        marks=("AccessDenied", "AccountProblem", "AllAccessDisabled", "403 Forbidden"),
        found="access denied",
        remedy="Grant the keys the rights on the bucket that docs/lake.md lists.",
    ),
    Cause(
        marks=("169.254.169.254", "loading credentials", "credential provider", "fetch credentials"),
        found="no keys",
        remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role.",
    ),
)
TROUBLES = (
    (("refused",), "connection refused"),
    (("NameResolutionError", "dns error"), "a host name that does not resolve"),
    (("SlowDown", "503 Service", "code 503", "code: 503"), "a server that is overloaded (503)"),
    (
        ("InternalError", "500 Internal", "502 Bad", "504 Gateway", "code 50", "code: 50"),
        "an error of the server's own",
    ),
    (("timed out",), "no answer in time"),
    (("Broken pipe", "reset", "aborted", "IncompleteRead", "closed"), "a connection cut in the middle"),
)


def s3_error(thing: str, error: Exception, *, server: str) -> EvergreenError:
    """ConfigurationError for what no retry mends, LakeUnavailable for everything else."""
    text = f"{error!r} {error}"
    for cause in CAUSES:
        if any(mark in text for mark in cause.marks):
            return ConfigurationError(
                thing,
                found=f"{cause.found} ({server})",
                wanted="a bucket that can be read and written",
                remedy=cause.remedy,
            )
    found = next((found for marks, found in TROUBLES if any(m in text for m in marks)), type(error).__name__)
    return LakeUnavailable(
        thing,
        found=f"{found} ({server})",
        wanted="an S3 server that answers",
        remedy="See that the server of the lake runs, then run the task again; nothing was half-written.",
    )
