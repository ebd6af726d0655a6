// Shows the control plane's OpenAPI description; requests that are tried from here run in the reader's own session.
"use strict";

addEventListener("DOMContentLoaded", () => {
  const main = document.getElementById("docs");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", follow);
  follow();
  SwaggerUIBundle({
    url: main.dataset.schema,
    domNode: main,
    deepLinking: true,
    validatorUrl: null,
    requestInterceptor: (request) => {
      request.headers["X-CSRFToken"] = main.dataset.csrf;
      return request;
    },
  });
});
