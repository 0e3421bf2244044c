"""TLS for clients: TLS 1.2 or newer, HTTP/1.1. New connections use a renewed certificate."""

from __future__ import annotations

import ssl

from llmendpoint_sidecar.inputs.certificate import CertificatePair


class Certificate:
    """The TLS context of the proxy. Raises ssl.SSLError if the certificate is not valid."""

    def __init__(self, pair: CertificatePair) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.set_alpn_protocols(["http/1.1"])
        self._pair = pair
        pair.load_into(self.context)

    def use(self, pair: CertificatePair) -> None:
        """Use a renewed certificate for new connections. Raises ssl.SSLError if it is not valid."""
        if pair != self._pair:
            pair.load_into(self.context)
            self._pair = pair
