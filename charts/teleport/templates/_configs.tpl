{{/* teleport.yaml of each role. The values' `config` is merged over it, so that every key can be set. */}}

{{- define "teleport.commonConfig" -}}
# Below the volume's own folder, which belongs to root: teleport keeps others out of its data_dir.
data_dir: /var/lib/teleport/data
diag_addr: 0.0.0.0:3000
log:
  output: stderr
  severity: {{ .Values.log.severity }}
{{- end -}}

{{- define "teleport.authConfig" -}}
{{- $config := include "teleport.authDefaults" . | fromYaml -}}
{{- toYaml (mergeOverwrite $config (deepCopy .Values.auth.config)) -}}
{{- end -}}

{{- define "teleport.authDefaults" -}}
teleport:
  {{- include "teleport.commonConfig" . | nindent 2 }}
  storage:
    type: {{ .Values.storage.type }}
    {{- if eq .Values.storage.type "etcd" }}
    {{- with .Values.storage.etcd }}
    peers:
      {{- toYaml .peers | nindent 6 }}
    prefix: {{ .prefix | quote }}
    {{- if .tlsSecretName }}
    tls_ca_file: /etc/teleport/etcd/ca.crt
    tls_cert_file: /etc/teleport/etcd/tls.crt
    tls_key_file: /etc/teleport/etcd/tls.key
    {{- end }}
    {{- if .insecure }}
    insecure: true
    {{- end }}
    {{- end }}
    {{- else if eq .Values.storage.type "dynamodb" }}
    {{- with .Values.storage.dynamodb }}
    region: {{ .region | quote }}
    table_name: {{ .tableName | quote }}
    {{- with .endpoint }}
    endpoint: {{ . | quote }}
    {{- end }}
    {{- end }}
    {{- end }}
auth_service:
  enabled: true
  # The storage is the truth: what custom resources declare takes effect without a restart.
  dynamic_config: true
  cluster_name: {{ include "teleport.clusterName" . | quote }}
  listen_addr: 0.0.0.0:3025
  authentication:
    second_factor: {{ .Values.authentication.secondFactor | quote }}
    {{- if eq .Values.authentication.secondFactor "u2f" }}
    u2f:
      app_id: {{ .Values.authentication.u2f.appId | quote }}
      facets:
        {{- toYaml .Values.authentication.u2f.facets | nindent 8 }}
    {{- end }}
ssh_service:
  enabled: false
proxy_service:
  enabled: false
{{- with .Values.audit }}
{{- if or .recordingsUri .retention .recordingsRetention .sinks }}
audit:
  {{- with .recordingsUri }}
  recordings_uri: {{ . | quote }}
  {{- end }}
  {{- with .retention }}
  retention: {{ . }}
  {{- end }}
  {{- with .recordingsRetention }}
  recordings_retention: {{ . }}
  {{- end }}
  {{- with .sinks }}
  sinks:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* How proxies and nodes come to the cluster: (dict "root" $ "values" VALUES). */}}
{{- define "teleport.memberConfig" -}}
{{ include "teleport.commonConfig" .root }}
auth_servers:
  {{- if .root.Values.auth.enabled }}
  - {{ include "teleport.component" (dict "root" .root "name" "auth") }}.{{ .root.Release.Namespace }}.svc:3025
  {{- else }}
  {{- toYaml .root.Values.authServers | nindent 2 }}
  {{- end }}
auth_token: /var/run/teleport/join/token
ca_pin: /var/run/teleport/join/caPin
# A stop takes so long at most: sessions go on until then. Ten seconds before Kubernetes ends the pod.
drain_timeout: {{ max 10 (sub (int .values.terminationGracePeriodSeconds) 10) }}s
{{- end -}}

{{- define "teleport.proxyConfig" -}}
{{- $config := include "teleport.proxyDefaults" . | fromYaml -}}
{{- toYaml (mergeOverwrite $config (deepCopy .Values.proxy.config)) -}}
{{- end -}}

{{- define "teleport.proxyDefaults" -}}
teleport:
  {{- include "teleport.memberConfig" (dict "root" . "values" .Values.proxy) | nindent 2 }}
auth_service:
  enabled: false
ssh_service:
  enabled: false
proxy_service:
  enabled: true
  listen_addr: 0.0.0.0:3023
  tunnel_listen_addr: 0.0.0.0:3024
  web_listen_addr: 0.0.0.0:3080
  {{- with .Values.proxy.publicAddr }}
  public_addr: {{ . | quote }}
  {{- end }}
  {{- with .Values.proxy.sshPublicAddr }}
  ssh_public_addr: {{ . | quote }}
  {{- end }}
  {{- with include "teleport.tunnelPublicAddr" . }}
  tunnel_public_addr: {{ . | quote }}
  {{- end }}
  {{- if include "teleport.tlsSecret" . }}
  https_cert_file: /etc/teleport/tls/tls.crt
  https_key_file: /etc/teleport/tls/tls.key
  {{- end }}
{{- end -}}

{{- define "teleport.nodeConfig" -}}
{{- $config := include "teleport.nodeDefaults" . | fromYaml -}}
{{- toYaml (mergeOverwrite $config (deepCopy .Values.node.config)) -}}
{{- end -}}

{{- define "teleport.nodeDefaults" -}}
teleport:
  {{- include "teleport.memberConfig" (dict "root" . "values" .Values.node) | nindent 2 }}
auth_service:
  enabled: false
proxy_service:
  enabled: false
ssh_service:
  enabled: true
  listen_addr: 0.0.0.0:3022
  recording: {{ .Values.node.recording | quote }}
  {{- with .Values.node.labels }}
  labels:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* The Secret with the certificate for HTTPS; empty where the proxy makes one of its own. */}}
{{- define "teleport.tlsSecret" -}}
{{- if .Values.proxy.tls.certManager.enabled -}}
{{- default (printf "%s-tls" (include "teleport.component" (dict "root" . "name" "proxy"))) .Values.proxy.tls.secretName -}}
{{- else -}}
{{- .Values.proxy.tls.secretName -}}
{{- end -}}
{{- end -}}

{{/* Where leaves reach the port of tunnels; empty where that is unknown, or what proxies say of themselves. */}}
{{- define "teleport.tunnelPublicAddr" -}}
{{- $proxy := .Values.proxy -}}
{{- $own := $proxy.tunnelService -}}
{{- $service := ternary $own $proxy.service $own.enabled -}}
{{- $port := ternary 0 $proxy.service.ports.tunnel $own.enabled -}}
{{- if eq $service.type "NodePort" -}}
{{- $port = ternary $own.nodePort $proxy.service.nodePorts.tunnel $own.enabled -}}
{{- end -}}
{{- if $proxy.tunnelPublicAddr -}}
{{- $proxy.tunnelPublicAddr -}}
{{- else if and $proxy.publicAddr $port (ne (int $port) 3024) -}}
{{- printf "%s:%d" (include "teleport.host" $proxy.publicAddr) (int $port) -}}
{{- end -}}
{{- end -}}

{{/* HOST of HOST:PORT. */}}
{{- define "teleport.host" -}}
{{- regexReplaceAll ":[0-9]+$" . "" -}}
{{- end -}}
