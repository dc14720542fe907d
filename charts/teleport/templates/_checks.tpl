{{/* What values.schema.json cannot say in words: each refusal names the value and what to do. */}}

{{- define "teleport.checks" -}}
{{- $v := .Values -}}
{{- if $v.auth.enabled -}}
  {{- if and (eq $v.storage.type "sqlite") (gt (int $v.auth.replicas) 1) -}}
    {{- fail "auth.replicas: on sqlite there is one auth; for more set storage.type to etcd or dynamodb" -}}
  {{- end -}}
  {{- if and (eq $v.storage.type "sqlite") (gt (int $v.operator.replicas) 1) -}}
    {{- fail "operator.replicas: on sqlite the operator is in auth's pod; for more set storage.type to etcd or dynamodb" -}}
  {{- end -}}
  {{- if and (eq $v.storage.type "etcd") (not $v.storage.etcd.peers) -}}
    {{- fail "storage.etcd.peers: name the members of etcd, as in https://etcd-0:2379" -}}
  {{- end -}}
  {{- if and (eq $v.storage.type "dynamodb") (not (and $v.storage.dynamodb.region $v.storage.dynamodb.tableName)) -}}
    {{- fail "storage.dynamodb: region and tableName are needed" -}}
  {{- end -}}
  {{- if and (eq $v.authentication.secondFactor "u2f") (not (and $v.authentication.u2f.appId $v.authentication.u2f.facets)) -}}
    {{- fail "authentication.u2f: with secondFactor u2f, appId and facets are needed" -}}
  {{- end -}}
{{- else -}}
  {{- if not $v.authServers -}}
    {{- fail "authServers: auth does not run here (auth.enabled is false), so name the auth servers of the cluster to join" -}}
  {{- end -}}
{{- end -}}
{{- range $name := list "proxy" "node" -}}
  {{- $part := get $v $name -}}
  {{- if and $part.enabled (not $part.joinSecretName) (not (include "teleport.hasOperator" $)) -}}
    {{- fail (printf "%s.joinSecretName: no operator of this release makes a token for it, so name a Secret with the keys token and caPin" $name) -}}
  {{- end -}}
{{- end -}}
{{- if and $v.trustedClusters (not (include "teleport.hasOperator" .)) -}}
  {{- fail "trustedClusters: the operator makes them true, and it does not run here (auth.enabled, operator.enabled)" -}}
{{- end -}}
{{- if $v.proxy.enabled -}}
  {{- if and (or (gt (int $v.proxy.replicas) 1) $v.proxy.autoscaling.enabled) (not (include "teleport.tlsSecret" .)) -}}
    {{- fail "proxy.tls: several proxies need one certificate, else each makes its own and tsh refuses all but one: set proxy.tls.secretName or proxy.tls.certManager" -}}
  {{- end -}}
  {{- if $v.proxy.tls.certManager.enabled -}}
    {{- if not $v.proxy.tls.certManager.issuerRef.name -}}
      {{- fail "proxy.tls.certManager.issuerRef.name: name the Issuer (or with kind ClusterIssuer one of those)" -}}
    {{- end -}}
    {{- if not (or $v.proxy.publicAddr $v.proxy.tls.certManager.dnsNames) -}}
      {{- fail "proxy.tls.certManager.dnsNames: set it, or proxy.publicAddr: a certificate needs a name" -}}
    {{- end -}}
  {{- end -}}
  {{- if and $v.proxy.ingress.enabled (not (or $v.proxy.ingress.host $v.proxy.publicAddr)) -}}
    {{- fail "proxy.ingress.host: set it, or proxy.publicAddr" -}}
  {{- end -}}
{{- end -}}
{{- end -}}
