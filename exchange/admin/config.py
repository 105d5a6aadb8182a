"""The settings of the admin interface: whether an exchange on the network has one, where, and who may use it.

These are the [admin] table of a profile, read by ``exchange serve``. Importing this module loads nothing of the layer.
"""

from typing import Annotated

from msgspec import Meta, Struct

from exchange import limits


class NoneAdminConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """Nobody looks in: no address is opened."""


class HttpAdminConfig(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="http"):
    """JSON over HTTP with a token: sessions, limits, halts, statistics, metrics. For `exchange serve`."""

    address: Annotated[
        str, Meta(description="numeric address to listen on; without TLS, this machine's own")
    ] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=limits.PORT_MAX, description="TCP port to listen on; 0 takes one that is free")
    ] = 9010
    token_file: Annotated[
        str, Meta(description="holds the token; made at the first start, readable by its owner only")
    ] = "exchange-admin-token"
    tls_certificate: Annotated[
        str, Meta(description="file of a certificate (PEM), for https; empty for plain HTTP")
    ] = ""
    tls_key: Annotated[str, Meta(description="file of the certificate's private key (PEM)")] = ""


AdminConfig = NoneAdminConfig | HttpAdminConfig
